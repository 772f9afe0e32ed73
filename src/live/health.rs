use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Whether a backend may get requests. Probes write the state; the data plane only ever ejects.
#[derive(Debug)]
pub struct Health {
    state: AtomicU8,
    ejected: AtomicBool,
    /// When it last became available, in milliseconds of the process's clock; slow start counts from here.
    since_millis: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// A newcomer: not one good probe yet.
    Unproven,
    Healthy,
    Unhealthy,
}

impl Health {
    pub fn new(state: HealthState, now_millis: u64) -> Self {
        Self {
            state: AtomicU8::new(state as u8),
            ejected: AtomicBool::new(false),
            since_millis: AtomicU64::new(now_millis),
        }
    }

    pub fn state(&self) -> HealthState {
        match self.state.load(Ordering::Acquire) {
            0 => HealthState::Unproven,
            1 => HealthState::Healthy,
            _ => HealthState::Unhealthy,
        }
    }

    pub fn set_state(&self, state: HealthState, now_millis: u64) {
        if state == HealthState::Healthy && self.state() != HealthState::Healthy {
            self.since_millis.store(now_millis, Ordering::Relaxed);
        }
        self.state.store(state as u8, Ordering::Release);
    }

    /// May get requests.
    pub fn is_available(&self) -> bool {
        self.state.load(Ordering::Relaxed) == HealthState::Healthy as u8
            && !self.ejected.load(Ordering::Relaxed)
    }

    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Leave it out until [`Health::readmit`]. True for the caller that did it.
    pub fn eject(&self) -> bool {
        !self.ejected.swap(true, Ordering::AcqRel)
    }

    pub fn readmit(&self, now_millis: u64) {
        self.since_millis.store(now_millis, Ordering::Relaxed);
        self.ejected.store(false, Ordering::Release);
    }

    /// Milliseconds of the process's clock at which it last became available.
    pub fn since_millis(&self) -> u64 {
        self.since_millis.load(Ordering::Relaxed)
    }
}
