//! Figures of endpoints and dead letters for Prometheus, and an HTTP server that shows them.
//!
//! A [`MetricsRegistry`] asks its sources when it is scraped: nothing is counted twice, and nothing is paid for while
//! nobody looks. The series are listed in `docs/guides/metrics.md`.
//!
//! ```no_run
//! # async fn example(system: nexus_actor_core::ActorSystem) -> Result<(), Box<dyn core::error::Error>> {
//! use nexus_remote::RemotingExtension;
//! use nexus_remote::metrics::{HttpServer, MetricsRegistry};
//!
//! let registry = MetricsRegistry::new();
//! registry.add_source(system.extension::<RemotingExtension>()?.handle());
//! registry.add_system(&system);
//! let server = HttpServer::bind(([127, 0, 0, 1], 9100).into(), registry).await?;
//! server.end_with(&system);
//! # Ok(())
//! # }
//! ```

mod http;
mod registry;

pub use self::http::{HttpError, HttpOptions, HttpServer};
pub use self::registry::{MetricsRegistry, SERIES};
pub use crate::endpoint_statistics::{
    EndedEndpoints, EndpointReport, EndpointSource, EndpointStatisticsSnapshot,
};
