//! The only state that cores share: atomics behind small types. The hot path writes nothing but its own
//! core's cells (relaxed load and store, no read-modify-write); readers add the cells up.

mod account;
mod backend;
mod cells;
mod census;
mod certificates;
mod challenges;
mod connections;
mod exemplars;
mod gate;
mod health;
mod hexadecimal;
mod hold;
mod journal;
mod lifecycle;
mod listener;
mod mirrors;
mod pool;
mod published;
mod recent;
mod slots;
mod snapshot;
mod stats;
mod trial;

pub use account::{Account, Answered, Attempt, ChosenBy, Labels, Protocol, Text, Trace};
pub use backend::{BackendTls, InFlight, Kind, LiveBackend, Outcome, Tally};
pub use cells::{Counter, PerCore};
pub use census::{Census, Tickets, add as add_tickets};
pub use certificates::{Certificates, SameName};
pub use challenges::{ChallengeHandshakes, Challenges};
pub use connections::Held;
pub use exemplars::{Exemplar, Exemplars};
pub use gate::{Entry, Full, Gate, Permit, Place};
pub use health::{Ejected, Health, HealthState};
pub use hexadecimal::{
    from_hexadecimal, from_hexadecimal_id, hexadecimal, hexadecimal_back, hexadecimal_id,
};
pub use hold::{HeldPlace, Hold};
pub use journal::{Journal, Sink, Sinks, Wanted};
pub use lifecycle::{Lifecycle, Phase};
pub use listener::{Bound, HandshakeFailure, LiveListener, LiveTls};
pub use mirrors::{MirrorPlace, Mirrored, Mirrors};
pub use pool::LivePool;
pub use published::{Published, Retired};
pub use recent::{Recent, Weighted};
pub use slots::{Slot, Slots};
pub use snapshot::{LiveService, PoolEntry, Snapshot};
pub use stats::{
    CLASSES, CODES, Fault, HistogramTotals, METHODS, PoolStats, PoolTotals, Reason, class_of,
    code_index, method_index,
};
pub use trial::{
    Assigned, Finding, FirstErrors, RouteCounts, RouteTotals, Trial, TrialCounts, TrialTotals,
};

use std::{
    ops::Add,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The root of everything shared; one a process (tests make many).
pub struct Live {
    /// Worker threads; every per-core structure has as many cells.
    pub cores: usize,
    pub clock: Clock,
    pub published: Published,
    pub lifecycle: Lifecycle,
    /// Each worker counts here, now and then, as long as it is not stuck.
    pub beats: PerCore<Counter>,
    pub census: Census,
    /// Woken when a backend was ejected or is suspected, so that the control plane looks after it.
    pub ejected: Notify,
    /// Where replies are counted that no pool stands for (`no_route`, bad requests).
    pub unrouted: Arc<LivePool>,
    /// Of requests that are over.
    pub journal: Journal,
    /// Every pool with series to show: those in the snapshot and those that linger.
    pools: Mutex<Vec<Arc<LivePool>>>,
}

impl Live {
    pub fn new(cores: usize, first: Snapshot) -> Arc<Self> {
        let empty = || "".into();
        Arc::new(Self {
            cores,
            clock: Clock::start(),
            published: Published::new(first),
            lifecycle: Lifecycle::default(),
            beats: PerCore::new(cores),
            census: Census::new(cores),
            ejected: Notify::new(),
            unrouted: LivePool::new(cores, empty(), empty(), empty()),
            journal: Journal::new(cores),
            pools: Mutex::new(Vec::new()),
        })
    }

    /// A copy of the list of pools with series to show.
    pub fn pools(&self) -> Vec<Arc<LivePool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For the control plane: which pools have series from now on.
    pub fn set_pools(&self, pools: Vec<Arc<LivePool>>) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }
}

/// Whole milliseconds, for what is compared with the clock.
pub fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()))
}

/// A moment of the process's clock: nanoseconds since it began. One number, because every request looks at
/// the clock and takes differences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// Whole milliseconds, as deadlines have them.
    pub fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Nanoseconds since `earlier`.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

fn nanos(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(duration.subsec_nanos().into())
}

/// The process's clock; what is compared across cores uses it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn at(&self, instant: Instant) -> Moment {
        Moment(nanos(instant.saturating_duration_since(self.0)))
    }

    pub fn now(&self) -> Moment {
        self.at(Instant::now())
    }

    pub fn now_millis(&self) -> u64 {
        self.now().millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_counted_from_the_clocks_beginning() {
        let clock = Clock::start();
        let read = clock.now();
        assert!(clock.at(clock.0) == Moment::default() && clock.now() >= read);
        assert_eq!((read + Duration::from_millis(3)).since(read), 3_000_000);
        assert_eq!(read.since(read + Duration::from_nanos(1)), 0);
        assert_eq!((Moment::default() + Duration::from_micros(2_999)).millis(), 2);
    }
}
