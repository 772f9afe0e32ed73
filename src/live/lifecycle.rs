use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Where the process is in its life. Goes forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Starting,
    Ready,
    /// Asked to end: not ready, but everything is still served.
    Leaving,
    /// No new connections; what is in flight finishes.
    Draining,
    /// The drain's deadline has passed: whatever is left is cancelled.
    Ended,
}

pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// When tunnels begin to be ended, in the process's milliseconds.
    ends_tunnels: AtomicU64,
    /// When the drain ends.
    ends: AtomicU64,
}

impl Default for Lifecycle {
    fn default() -> Self {
        let phase = watch::Sender::new(Phase::Starting);
        Self { phase, ends_tunnels: AtomicU64::new(0), ends: AtomicU64::new(0) }
    }
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Drains from now on, until `ends`; tunnels are left alone until `tunnels`.
    pub fn drain(&self, tunnels: u64, ends: u64) {
        self.ends_tunnels.store(tunnels, Ordering::Relaxed);
        self.ends.store(ends, Ordering::Relaxed);
        self.advance(Phase::Draining);
    }

    /// When tunnels begin to be ended, in the process's milliseconds.
    pub fn ends_tunnels(&self) -> u64 {
        self.ends_tunnels.load(Ordering::Relaxed)
    }

    /// When the drain ends, in the process's milliseconds.
    pub fn ends(&self) -> u64 {
        self.ends.load(Ordering::Relaxed)
    }

    /// Goes forward to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}
