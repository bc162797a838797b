//! The trait an application implements.

use alloc::boxed::Box;
use core::future::Future;

use crate::context::Context;
use crate::signal::Signal;

/// What a handler returns to say that the actor has failed; `?` works on any error.
pub type ActorError = Box<dyn core::error::Error + Send + Sync>;

/// State that is changed by one message at a time.
///
/// Written with plain `async fn`. The message type is the protocol: it need only be [`Send`], and
/// `#[derive(Message)]` when it is to cross a wire.
///
/// Failing, by `Err` or by a panic, concerns this actor only: its parent's
/// [`SupervisorStrategy`](crate::SupervisorStrategy) decides whether it resumes, is replaced or stops.
pub trait Actor: Sized + Send + 'static {
    /// The messages it takes.
    type Msg: Send + 'static;

    /// Handles one message.
    ///
    /// The next message waits until this returns, so an `.await` here is a pause of this actor alone. While
    /// it waits, only a stop is noticed.
    ///
    /// # Errors
    /// An error is a failure of the actor.
    ///
    /// # Cancel safety
    /// A stop waits for a suspended handler up to the stop deadline and then drops its future: every `.await`
    /// is a cancellation point.
    fn receive(
        &mut self,
        message: Self::Msg,
        cx: &mut Context<'_, Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send;

    /// Handles a signal about its own life or one it watches. Ignores it unless implemented.
    ///
    /// # Errors
    /// An error is a failure of the actor.
    fn signal(
        &mut self,
        signal: Signal,
        cx: &mut Context<'_, Self>,
    ) -> impl Future<Output = Result<(), ActorError>> + Send {
        let _ = (signal, cx);
        core::future::ready(Ok(()))
    }
}
