//! The service that is moved.

use crossfade::spec::{Backend, Pool, PoolProtocol, Service, Weight};
use std::time::Duration;

pub(crate) fn pool(weight: u32, ports: impl IntoIterator<Item = u16>) -> Pool {
    let backend = |port| (format!("127.0.0.1:{port}").parse().unwrap(), Backend::default());
    Pool {
        version: "v".into(),
        weight: Weight::new(weight.into()).unwrap(),
        backends: ports.into_iter().map(backend).collect(),
        slow_start: Duration::ZERO,
        drained: false,
        protocol: PoolProtocol::H1,
        proxy_protocol: None,
        tls: None,
    }
}

/// All on `blue`, which has as many backends as `green`.
pub(crate) fn shop() -> Service {
    let pools = [("blue".into(), pool(100, 1..4)), ("green".into(), pool(0, 11..14))];
    Service::new(pools.into_iter().collect())
}
