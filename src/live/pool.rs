use super::{InFlight, LiveBackend, Mirrors, PoolStats};
use crate::spec::Name;
use std::sync::{
    Arc, Mutex, PoisonError, Weak,
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
    ejections: AtomicU64,
    backends: Mutex<Vec<Weak<LiveBackend>>>,
}

impl LivePool {
    pub fn new(cores: usize, service: Name, name: Name, version: Name) -> Arc<Self> {
        Arc::new(Self {
            service,
            name,
            version,
            stats: PoolStats::new(cores),
            mirrors: Mirrors::default(),
            ejections: AtomicU64::new(0),
            backends: Mutex::new(Vec::new()),
        })
    }

    pub(super) fn adopt(&self, backend: &Arc<LiveBackend>) {
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.retain(|known| known.strong_count() > 0);
        backends.push(Arc::downgrade(backend));
    }

    /// Its backends, those that drain included.
    pub fn backends(&self) -> Vec<Arc<LiveBackend>> {
        let backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        backends.iter().filter_map(Weak::upgrade).collect()
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
