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

pub struct Lifecycle(watch::Sender<Phase>);

impl Default for Lifecycle {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Lifecycle {
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Goes forward to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|current| {
            let forward = phase > *current;
            if forward {
                *current = phase;
            }
            forward
        });
    }

    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }
}
