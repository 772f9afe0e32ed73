//! The parts put together: control task and workers, from the first snapshot to the last byte.

use crate::{
    acme, config,
    control::{self, FileStatus, Format, Handle, StartError},
    live::{Live, Phase},
    proxy,
    spec::Spec,
};
use std::{
    fmt, io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::sleep};

/// A running proxy, without its admin side.
pub struct Process {
    pub live: Arc<Live>,
    pub handle: Handle,
    control: JoinHandle<()>,
    acme: JoinHandle<()>,
    workers: Vec<thread::JoinHandle<io::Result<()>>>,
}

/// Why it did not start.
#[derive(Debug)]
pub enum ProcessError {
    Start(StartError),
    Thread(io::Error),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "a worker thread could not be started: {error}"),
        }
    }
}

impl std::error::Error for ProcessError {}

/// Specs are kept in the keys of the file.
pub const FORMAT: Format =
    Format { write: config::to_stored, read: config::from_stored, changes: config::changes_text };

/// How often threads are looked at, which cannot be awaited.
const LOOK: Duration = Duration::from_millis(10);

impl Process {
    /// Binds the listeners and starts the workers. The control task runs on the caller's runtime.
    ///
    /// # Errors
    /// When the spec cannot be put in force, above all because a listener cannot be bound.
    pub async fn start(spec: Spec, file: FileStatus) -> Result<Self, ProcessError> {
        let cores = match spec.threads {
            Some(threads) => threads.get(),
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let started =
            control::start(spec, cores, file, FORMAT).await.map_err(ProcessError::Start)?;
        // Before anybody is accepted: what was issued before is shown from the first handshake on.
        let acme = acme::start(started.live.clone(), started.handle.clone()).await;
        let spawn = |core| proxy::spawn(started.live.clone(), core);
        let workers = (0..cores).map(spawn).collect::<io::Result<_>>();
        Ok(Self {
            workers: workers.map_err(ProcessError::Thread)?,
            live: started.live,
            handle: started.handle,
            control: started.task,
            acme,
        })
    }

    /// Returns when a part has ended that should not have: nobody steers or a core serves no more.
    pub async fn broken(&self) -> &'static str {
        loop {
            if self.control.is_finished() {
                return "the control task has ended";
            }
            if self.acme.is_finished() && self.live.lifecycle.phase() < Phase::Leaving {
                return "the task that orders certificates has ended";
            }
            if self.live.lifecycle.phase() < Phase::Draining
                && self.workers.iter().any(thread::JoinHandle::is_finished)
            {
                return "a worker has ended";
            }
            sleep(LOOK * 10).await;
        }
    }

    /// Stops accepting and returns when everything in flight is served, or `deadline` has passed and the
    /// rest was cancelled. True when nothing had to be.
    pub async fn drain(&self, deadline: Duration) -> bool {
        let ends = self.live.clock.now() + deadline;
        self.live.lifecycle.drain(ends.millis());
        let done = self.wait_for_workers(deadline).await;
        self.live.lifecycle.advance(Phase::Ended);
        if !done {
            // They cancel what is left and end; whoever hangs is left behind.
            self.wait_for_workers(Duration::from_secs(1)).await;
        }
        done
    }

    async fn wait_for_workers(&self, deadline: Duration) -> bool {
        let began = Instant::now();
        loop {
            if self.workers.iter().all(thread::JoinHandle::is_finished) {
                return true;
            }
            if began.elapsed() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
    }
}
