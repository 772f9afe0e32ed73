//! Specs for tests.

use crate::spec::{Admin, Name, Pool, Service, Shutdown, Spec, UnhealthyPool, Weight};
use indexmap::IndexMap;
use std::time::Duration;

/// A service `shop` with pools of these names, weights and `drained`, without backends.
pub(super) fn spec(pools: &[(&str, u32, bool)], unhealthy: UnhealthyPool) -> Spec {
    let pools = pools.iter().map(|&(name, weight, drained)| (name.into(), pool(weight, drained)));
    let mut shop = Service::new(pools.collect::<IndexMap<Name, Pool>>());
    shop.unhealthy_pool = unhealthy;
    Spec {
        threads: None,
        engine: Default::default(),
        shutdown: Shutdown::default(),
        startup_wait: Duration::ZERO,
        listeners: Vec::new(),
        admin: Admin::default(),
        metrics_linger: Duration::ZERO,
        services: IndexMap::from([("shop".into(), shop)]),
        routes: Vec::new(),
    }
}

fn pool(weight: u32, drained: bool) -> Pool {
    Pool {
        version: "v1".into(),
        weight: Weight::new(weight.into()).expect("a test's weight is small"),
        backends: IndexMap::new(),
        slow_start: Duration::ZERO,
        tls: None,
        drained,
    }
}
