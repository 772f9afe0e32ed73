use super::{InFlight, LiveBackend, PoolStats};
use crate::spec::Name;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One version of a service as long as its series are shown. A pool whose version label changes is
/// another live pool.
#[derive(Debug)]
pub struct LivePool {
    pub service: Name,
    pub name: Name,
    pub version: Name,
    pub stats: PoolStats,
    backends: Mutex<Vec<Weak<LiveBackend>>>,
}

impl LivePool {
    pub fn new(cores: usize, service: Name, name: Name, version: Name) -> Arc<Self> {
        Arc::new(Self {
            service,
            name,
            version,
            stats: PoolStats::new(cores),
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

    pub fn in_flight(&self) -> InFlight {
        let mut sum = InFlight::default();
        for backend in self.backends() {
            sum += backend.in_flight();
        }
        sum
    }
}
