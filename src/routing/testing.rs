//! Specs for tests.

use super::{Host, PoolSet};
use crate::spec::{
    Backend, BackendAddress, Name, Pool, Route, Service, Spec, Sticky, StickyKey, Weight,
};
use indexmap::IndexMap;
use std::time::Duration;

/// A host that is one, if any.
pub(super) fn host_of(text: &str) -> Option<Host<'_>> {
    Host::parse(text.as_bytes()).unwrap()
}

/// The pools of these indexes.
pub(super) fn pools(indexes: &[usize]) -> PoolSet {
    PoolSet::of((0..Service::MAX_POOLS).map(|pool| indexes.contains(&pool)))
}

/// Each pool: name, version and weight. Without backends.
pub(super) fn service(pools: &[(&str, &str, u32)]) -> Service {
    let pool = |&(name, version, weight): &(&str, &str, u32)| {
        (Name::from(name), pool(version, weight, &[]))
    };
    Service::new(pools.iter().map(pool).collect())
}

/// With backends of these weights, on ports from 9000.
pub(super) fn pool(version: &str, weight: u32, backends: &[u32]) -> Pool {
    let backend = |(port, &weight): (u16, &u32)| {
        let address = BackendAddress::Host { host: "test".into(), port };
        (address, Backend { weight: heavy(weight), drained: false })
    };
    Pool {
        version: version.into(),
        weight: heavy(weight),
        backends: (9000..).zip(backends).map(backend).collect(),
        slow_start: Duration::ZERO,
        drained: false,
        protocol: Default::default(),
        proxy_protocol: None,
        tls: None,
    }
}

pub(super) fn heavy(weight: u32) -> Weight {
    Weight::new(u64::from(weight)).unwrap()
}

pub(super) fn sticky(key: StickyKey) -> Sticky {
    Sticky { key, issue: false, max_age: None, salt: None }
}

pub(super) fn spec(services: Vec<(&str, Service)>, routes: Vec<Route>) -> Spec {
    let services: IndexMap<Name, Service> =
        services.into_iter().map(|(name, service)| (name.into(), service)).collect();
    Spec { services, routes, ..Spec::default() }
}
