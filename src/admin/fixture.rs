//! Specs for tests.

use crate::spec::{Name, Pool, Service, Spec, UnhealthyPool, Weight};
use indexmap::IndexMap;
use std::time::Duration;

/// A service `shop` with pools of these names, weights and `drained`, without backends.
pub(super) fn spec(pools: &[(&str, u32, bool)], unhealthy: UnhealthyPool) -> Spec {
    let pools = pools.iter().map(|&(name, weight, drained)| (name.into(), pool(weight, drained)));
    let mut shop = Service::new(pools.collect::<IndexMap<Name, Pool>>());
    shop.unhealthy_pool = unhealthy;
    Spec { services: IndexMap::from([("shop".into(), shop)]), ..Spec::default() }
}

fn pool(weight: u32, drained: bool) -> Pool {
    Pool {
        version: "v1".into(),
        weight: Weight::new(weight.into()).expect("a test's weight is small"),
        backends: IndexMap::new(),
        slow_start: Duration::ZERO,
        tls: None,
        drained,
        proxy_protocol: None,
    }
}
