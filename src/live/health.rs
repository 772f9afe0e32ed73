use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// Whether a backend may get requests. Probes write the state; the data plane ejects what cannot be reached,
/// the control task whose requests fail.
#[derive(Debug)]
pub struct Health {
    state: AtomicU8,
    /// A bit for each [`Ejected`].
    ejected: AtomicU8,
    /// A core has seen it fail too often; the control task judges.
    suspect: AtomicBool,
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

/// Why a backend is left out although its probes, if there are any, are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejected {
    /// It cannot be connected to; until it can.
    Unreachable = 1,
    /// Its requests fail; for some time.
    Failing = 2,
}

impl Health {
    pub fn new(state: HealthState, now_millis: u64) -> Self {
        Self {
            state: AtomicU8::new(state as u8),
            ejected: AtomicU8::new(0),
            suspect: AtomicBool::new(false),
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
            && self.ejected.load(Ordering::Relaxed) == 0
    }

    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed) != 0
    }

    pub fn is_ejected_for(&self, why: Ejected) -> bool {
        self.ejected.load(Ordering::Relaxed) & why as u8 != 0
    }

    /// Leave it out until [`Health::readmit`]. True for the caller that did it.
    pub fn eject(&self, why: Ejected) -> bool {
        self.ejected.fetch_or(why as u8, Ordering::AcqRel) & why as u8 == 0
    }

    /// `why` does not hold any more.
    pub fn readmit(&self, why: Ejected, now_millis: u64) {
        self.since_millis.store(now_millis, Ordering::Relaxed);
        self.ejected.fetch_and(!(why as u8), Ordering::Release);
    }

    pub fn suspect(&self) {
        self.suspect.store(true, Ordering::Release);
    }

    /// It was suspected since the last time.
    pub fn take_suspicion(&self) -> bool {
        self.suspect.swap(false, Ordering::AcqRel)
    }

    /// Milliseconds of the process's clock at which it last became available.
    pub fn since_millis(&self) -> u64 {
        self.since_millis.load(Ordering::Relaxed)
    }
}
