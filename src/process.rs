//! The parts put together: control task and workers, from the first snapshot to the last byte.

use crate::{
    accounts, acme, config,
    control::{self, FileStatus, Format, Handle, Inheritance, StartError, Started},
    live::{Counter, Live, Phase, PoolTotals, Tally},
    proxy,
    spec::Spec,
};
use std::{
    fmt, io,
    net::SocketAddr,
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
    accounts: thread::JoinHandle<()>,
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

/// How long an end waits for what is still to be written of requests.
const LAST_LINES: Duration = Duration::from_secs(2);

/// One that has its listeners and looks at its backends, but accepts nothing yet.
pub struct Prepared(Started);

impl Prepared {
    /// Binds the listeners, but for those that are handed over. The control task runs on the caller's runtime.
    ///
    /// # Errors
    /// When the spec cannot be put in force, above all because a listener cannot be bound.
    pub async fn new(
        spec: Spec,
        file: FileStatus,
        inheritance: Inheritance,
    ) -> Result<Self, ProcessError> {
        let cores = match spec.threads {
            Some(threads) => threads.get(),
            None => thread::available_parallelism().map_or(1, usize::from),
        };
        let started = control::start_from(spec, cores, file, FORMAT, inheritance).await;
        started.map(Self).map_err(ProcessError::Start)
    }

    /// Returns when the backends have been looked at.
    pub async fn is_ready(&self) {
        let mut phases = self.0.live.lifecycle.subscribe();
        // Its sender is held here.
        let _ = phases.wait_for(|phase| *phase >= Phase::Ready).await;
    }

    /// Where the listeners listen.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let published = &self.0.live.published;
        published.read(|snapshot| snapshot.listeners.iter().map(|it| it.bound.address).collect())
    }

    pub fn handle(&self) -> &Handle {
        &self.0.handle
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub async fn serve(self) -> Result<Process, ProcessError> {
        let Started { live, handle, task } = self.0;
        // Before anybody is accepted: what was issued before is shown from the first handshake on.
        let acme = acme::start(live.clone(), handle.clone()).await;
        let accounts = accounts::start(live.clone()).map_err(ProcessError::Thread)?;
        let workers = (0..live.cores).map(|core| proxy::spawn(live.clone(), core));
        let workers = workers.collect::<io::Result<_>>().map_err(ProcessError::Thread)?;
        Ok(Process { live, handle, control: task, acme, accounts, workers })
    }
}

impl Process {
    /// Binds the listeners and starts the workers. The control task runs on the caller's runtime.
    ///
    /// # Errors
    /// When the spec cannot be put in force, above all because a listener cannot be bound.
    pub async fn start(spec: Spec, file: FileStatus) -> Result<Self, ProcessError> {
        Prepared::new(spec, file, Inheritance::default()).await?.serve().await
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
            if self.live.lifecycle.phase() < Phase::Draining && self.accounts.is_finished() {
                return "the thread that writes the access log has ended";
            }
            if self.live.lifecycle.phase() < Phase::Draining
                && self.workers.iter().any(thread::JoinHandle::is_finished)
            {
                return "a worker has ended";
            }
            sleep(LOOK * 10).await;
        }
    }

    /// Whether control task and workers do their work: waits for each of them to show it.
    pub fn pulse(&self) -> Pulse {
        Pulse { live: self.live.clone(), handle: self.handle.clone(), beats: Vec::new() }
    }

    /// Stops accepting and returns when everything in flight is served, or `deadline` has passed and the
    /// rest was cancelled. True when nothing had to be.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.drain_with(deadline, Duration::ZERO).await
    }

    /// `tunnels`: for so long they are left alone.
    async fn drain_with(&self, deadline: Duration, tunnels: Duration) -> bool {
        let now = self.live.clock.now();
        self.live.lifecycle.drain((now + tunnels).millis(), (now + deadline).millis());
        let done = self.wait_for_workers(deadline).await;
        self.live.lifecycle.advance(Phase::Ended);
        if !done {
            // They cancel what is left and end; whoever hangs is left behind.
            self.wait_for_workers(Duration::from_secs(1)).await;
        }
        self.live.journal.end();
        wait_until(LAST_LINES, || self.accounts.is_finished()).await;
        done
    }

    /// Another process accepts from the same sockets from now on, but for those of listeners that it does not
    /// have: what is in flight is finished as in [`Process::drain`], with tunnels for as long as there is time.
    pub async fn leave_to_successor(
        &self,
        has: impl Fn(SocketAddr) -> bool,
        deadline: Duration,
    ) -> bool {
        self.live.published.read(|snapshot| {
            let bound = snapshot.listeners.iter().map(|listener| &listener.bound);
            bound.filter(|bound| has(bound.address)).for_each(|bound| bound.share());
        });
        self.live.lifecycle.advance(Phase::Leaving);
        self.drain_with(deadline, deadline / 2).await
    }

    /// Says in the log what became of the requests of each pool that had any: nobody can ask any more.
    pub fn log_ledger(&self) {
        for pool in self.live.pools() {
            let Tally { started, finished, told, cut } = pool.tally();
            if started == 0 {
                continue;
            }
            let PoolTotals { retries, rescued, .. } = *pool.stats.totals();
            tracing::info!(
                service = %pool.service, pool = %pool.name, version = %pool.version,
                started, finished, told_to_close = told, cut, retries, rescued,
                // A worker that hangs may count on.
                open = started.saturating_sub(finished + cut), "ledger"
            );
        }
    }

    async fn wait_for_workers(&self, deadline: Duration) -> bool {
        wait_until(deadline, || self.workers.iter().all(thread::JoinHandle::is_finished)).await
    }
}

/// False when that has not come by the deadline.
async fn wait_until(deadline: Duration, is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() >= deadline {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

/// Tells whether a process is stuck.
pub struct Pulse {
    live: Arc<Live>,
    handle: Handle,
    /// Of each worker when they were last looked at.
    beats: Vec<u64>,
}

impl Pulse {
    /// True once the control task has answered, if every worker has come round since this was last asked; that is
    /// more than once a second.
    pub async fn is_felt(&mut self) -> bool {
        let beats: Vec<u64> = self.live.beats.iter().map(Counter::get).collect();
        let before = std::mem::replace(&mut self.beats, beats);
        // Workers that have drained have ended.
        let drains = self.live.lifecycle.phase() >= Phase::Draining;
        let all_beat = drains || before.iter().zip(&self.beats).all(|(before, now)| before != now);
        all_beat && self.handle.is_alive().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Surroundings, parse};
    use std::path::Path;

    #[tokio::test]
    async fn one_worker_that_hangs_is_enough() {
        let text = "{ listeners: [{ address: '127.0.0.1:0' }], services: { s: { pools: { \
            p: { version: v1, backends: ['127.0.0.1:1'] } } } } }";
        let spec = parse(text, Path::new(""), Surroundings::of_clients()).spec.expect("a spec");
        // The workers are played here.
        let Started { live, handle, task } =
            control::start(spec, 3, FileStatus::default(), FORMAT).await.unwrap();
        let mut pulse = Pulse { live: live.clone(), handle, beats: Vec::new() };
        let mut felt_after = async |cores: &[usize]| {
            cores.iter().for_each(|core| live.beats.of(*core).add(1));
            pulse.is_felt().await
        };
        assert!(felt_after(&[0, 1, 2]).await, "nothing is known of before");
        assert!(felt_after(&[2, 0, 1, 1]).await);
        assert!(!felt_after(&[0, 2, 2]).await);
        assert!(!felt_after(&[]).await);
        assert!(felt_after(&[0, 1, 2]).await, "it has come round again");
        task.abort();
        assert!(task.await.is_err());
        assert!(!felt_after(&[0, 1, 2]).await, "nobody steers");
    }
}
