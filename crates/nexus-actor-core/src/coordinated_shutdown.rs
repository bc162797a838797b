//! What runs when a system shuts down, in order and in time.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::future::Future;

use crate::lock::Lock;
use crate::runtime::BoxFuture;
use crate::system::ActorSystem;
use crate::time::Instant;

/// When a task runs in a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// First: refuse new work, drain what is under way.
    BeforeActors,
    /// After `/user` has stopped, before the extensions (and remoting) end.
    AfterActors,
    /// Last, when every actor has stopped.
    Last,
}

type Task = Box<dyn FnOnce() -> BoxFuture + Send>;

/// Tasks an application runs in the course of a shutdown. Those of one phase run one after the other in the
/// order they were added; all phases share the system's shutdown time.
#[derive(Default)]
pub struct CoordinatedShutdown {
    tasks: Lock<Vec<(ShutdownPhase, String, Task)>>,
}

impl CoordinatedShutdown {
    /// Adds a task. One added after its phase has passed never runs.
    pub fn add_task<F: Future<Output = ()> + Send + 'static>(
        &self,
        phase: ShutdownPhase,
        name: impl Into<String>,
        task: impl FnOnce() -> F + Send + 'static,
    ) {
        let task: Task = Box::new(move || Box::pin(task()));
        self.tasks.lock().push((phase, name.into(), task));
    }

    /// Runs the tasks of one phase; what does not end by the deadline is named in `left`.
    pub(crate) async fn run(
        &self,
        phase: ShutdownPhase,
        system: &ActorSystem,
        deadline: Instant,
        left: &mut Vec<String>,
    ) {
        loop {
            let next = {
                let mut tasks = self.tasks.lock();
                let at = tasks.iter().position(|(of, _, _)| *of == phase);
                at.map(|at| tasks.remove(at))
            };
            let Some((_, name, task)) = next else { return };
            if !system.within(deadline, task()).await {
                left.push(name);
            }
        }
    }
}

impl fmt::Debug for CoordinatedShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoordinatedShutdown({} tasks)", self.tasks.lock().len())
    }
}
