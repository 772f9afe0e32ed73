use super::{Challenges, Gate, Hold, LiveBackend, LiveListener, LivePool, Recent, Slot, Trial};
use crate::{
    routing::{PoolTable, RoutingTable, ServiceTable},
    spec::Name,
};
use std::sync::Arc;

/// What one publish makes current: the routing table and the live parts it speaks of, in the same order.
pub struct Snapshot {
    pub revision: u64,
    pub table: RoutingTable,
    /// Parallel to `table.services`.
    pub services: Vec<LiveService>,
    pub listeners: Vec<LiveListener>,
    /// Of certificates that are being ordered.
    pub challenges: Arc<Challenges>,
}

#[derive(Clone)]
pub struct LiveService {
    pub name: Name,
    /// Where each core keeps the service's sequence of draws and its budgets; the same as long as the
    /// service exists.
    pub slot: Arc<Slot>,
    /// Where its limit on requests in flight is kept; the same as long as the service exists.
    pub gate: Arc<Gate>,
    /// Some of its requests; the same as long as the service exists.
    pub recent: Arc<Recent>,
    /// Its requests wait for this to end.
    pub hold: Option<Arc<Hold>>,
    /// Its requests are counted for a comparison of versions.
    pub trial: Option<Arc<Trial>>,
    /// Parallel to the pools of the table's service.
    pub pools: Vec<PoolEntry>,
}

#[derive(Clone)]
pub struct PoolEntry {
    pub pool: Arc<LivePool>,
    /// Parallel to the backends of the table's pool.
    pub backends: Vec<Arc<LiveBackend>>,
}

impl LiveService {
    /// The share, 0 to 1, of the draws that each pool gets as things stand.
    pub fn shares(&self, table: &ServiceTable) -> Vec<f64> {
        table.shares(|pool| self.pools[pool].is_available(&table.pools[pool]))
    }
}

impl PoolEntry {
    /// Some backend can take requests.
    pub fn is_available(&self, table: &PoolTable) -> bool {
        table.backends.iter().zip(&self.backends).any(|(backend, live)| {
            !backend.drained && backend.weight.get() > 0 && live.health.is_available()
        })
    }
}
