use super::{
    InFlight, LiveBackend, Mirrors, PerCore, PoolStats, Tally, TrialCounts, backend::Cell,
};
use crate::spec::Name;
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

/// One version of a service as long as its series are shown. A pool whose version label changes is
/// another live pool.
#[derive(Debug)]
pub struct LivePool {
    pub service: Name,
    pub name: Name,
    pub version: Name,
    pub stats: PoolStats,
    pub mirrors: Mirrors,
    /// Where versions are, or were, compared.
    counts: OnceLock<TrialCounts>,
    ejections: AtomicU64,
    backends: Mutex<Backends>,
}

#[derive(Debug, Default)]
struct Backends {
    /// With their counters, which count until what was counted has been taken over.
    known: Vec<(Weak<LiveBackend>, PerCore<Cell>)>,
    /// Of those that have gone.
    gone: Tally,
}

impl LivePool {
    pub fn new(cores: usize, service: Name, name: Name, version: Name) -> Arc<Self> {
        Arc::new(Self {
            service,
            name,
            version,
            stats: PoolStats::new(cores),
            mirrors: Mirrors::default(),
            counts: OnceLock::new(),
            ejections: AtomicU64::new(0),
            backends: Mutex::default(),
        })
    }

    pub(super) fn adopt(&self, backend: &Arc<LiveBackend>, cells: &PerCore<Cell>) {
        self.locked().known.push((Arc::downgrade(backend), cells.clone()));
    }

    /// A backend goes; what it has counted stays.
    pub(super) fn part_with(&self, backend: &LiveBackend) {
        let mut backends = self.locked();
        let Backends { known, gone } = &mut *backends;
        known.retain(|(known, cells)| {
            let goes = std::ptr::eq(known.as_ptr(), backend);
            if goes {
                *gone += Tally::of(cells);
            }
            !goes
        });
    }

    /// Its backends, those that drain included.
    pub fn backends(&self) -> Vec<Arc<LiveBackend>> {
        self.locked().known.iter().filter_map(|(backend, _)| backend.upgrade()).collect()
    }

    /// What became of all its requests, those of backends that have gone included.
    pub fn tally(&self) -> Tally {
        let backends = self.locked();
        let mut sum = backends.gone;
        backends.known.iter().for_each(|(_, cells)| sum += Tally::of(cells));
        sum
    }

    fn locked(&self) -> MutexGuard<'_, Backends> {
        self.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was counted of its requests in a comparison; `None`: nothing was.
    pub fn counts(&self) -> Option<&TrialCounts> {
        self.counts.get()
    }

    pub(super) fn begin_counting(&self, cores: usize) -> &TrialCounts {
        self.counts.get_or_init(|| TrialCounts::new(cores))
    }

    /// One of its backends was ejected, by whoever.
    pub fn record_ejection(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub fn in_flight(&self) -> InFlight {
        let mut sum = InFlight::default();
        for backend in self.backends() {
            sum += backend.in_flight();
        }
        sum
    }
}
