//! Short ways to write specs and changes.

use super::{Change, Command, Format, Source};
use crate::spec::{
    Backend, BackendAddress, HostPattern, Match, Name, PathMatch, Pin, Pool, Role, Route, Service,
    Spec, Weight,
};
use std::{sync::Mutex, time::Duration};

pub(super) fn name(text: &str) -> Name {
    text.into()
}

pub(super) fn weight(value: u64) -> Weight {
    Weight::new(value).unwrap()
}

/// On an address of 127.0.0.1.
pub(super) fn address(port: u16) -> BackendAddress {
    format!("127.0.0.1:{port}").parse().unwrap()
}

pub(super) fn pool(version: &str, share: u64, ports: &[u16]) -> Pool {
    Pool {
        version: name(version),
        weight: weight(share),
        backends: ports.iter().map(|&port| (address(port), Backend::default())).collect(),
        slow_start: Duration::ZERO,
        drained: false,
        protocol: Default::default(),
        proxy_protocol: None,
        tls: None,
    }
}

pub(super) fn service(pools: &[(&str, Pool)]) -> Service {
    Service::new(pools.iter().map(|(pool, settings)| (name(pool), settings.clone())).collect())
}

/// blue 95 on port 1 and 2, green 5 on port 11; drains take at most a minute.
pub(super) fn shop() -> Service {
    let mut shop = service(&[("blue", pool("v1", 95, &[1, 2])), ("green", pool("v2", 5, &[11]))]);
    shop.timeouts.drain = Duration::from_secs(60);
    shop
}

pub(super) fn spec(services: &[(&str, Service)]) -> Spec {
    Spec {
        services: services.iter().map(|(n, service)| (name(n), service.clone())).collect(),
        routes: services.iter().map(|(service, _)| route(service, service)).collect(),
        ..Spec::default()
    }
}

pub(super) fn route(route: &str, service: &str) -> Route {
    let host = HostPattern::Exact(format!("{route}.example.com").into());
    let matches = Match { hosts: vec![host], path: PathMatch::Any, ..Match::default() };
    Route::new(name(route), matches, name(service))
}

pub(super) fn pin(pool: &str) -> Pin {
    Pin { matches: Match::default(), from: Vec::new(), pool: name(pool) }
}

pub(super) fn change(command: Command) -> Change {
    Change {
        command,
        source: Source::Api,
        author: name("test"),
        role: Role::Operator,
        cause: None,
        force: false,
        if_match: None,
        dry_run: false,
        wait_healthy: None,
    }
}

pub(super) fn cutover(to: &str) -> Command {
    Command::Cutover { service: name("shop"), to: name(to) }
}

pub(super) fn set_weights(weights: &[(&str, u64)]) -> Command {
    let weights = weights.iter().map(|&(pool, share)| (name(pool), weight(share))).collect();
    Command::SetWeights { service: name("shop"), weights }
}

pub(super) fn put_pool(pool: &str, settings: Pool) -> Command {
    Command::PutPool { service: name("shop"), name: name(pool), pool: settings }
}

pub(super) fn delete_pool(pool: &str) -> Command {
    Command::DeletePool { service: name("shop"), name: name(pool) }
}

pub(super) fn put_backend(pool: &str, port: u16) -> Command {
    Command::PutBackend {
        service: name("shop"),
        pool: name(pool),
        address: address(port),
        backend: Backend::default(),
    }
}

pub(super) fn delete_backend(pool: &str, port: u16) -> Command {
    Command::DeleteBackend { service: name("shop"), pool: name(pool), address: address(port) }
}

pub(super) fn drain(pool: &str, port: Option<u16>) -> Command {
    Command::Drain {
        service: name("shop"),
        pool: Some(name(pool)),
        backends: port.map(address).into_iter().collect(),
    }
}

pub(super) fn undrain(pool: &str, port: Option<u16>) -> Command {
    Command::Undrain {
        service: name("shop"),
        pool: Some(name(pool)),
        backends: port.map(address).into_iter().collect(),
    }
}

pub(super) fn load(file: &Spec) -> Command {
    Command::Load { file: Box::new(file.clone()) }
}

/// Specs are kept as they are, and named by numbers.
pub(super) const FORMAT: Format = Format {
    write: |spec, _| {
        let mut specs = WRITTEN.lock().unwrap();
        specs.push(spec.clone());
        Ok((specs.len() - 1).to_string())
    },
    read: |text| {
        let specs = WRITTEN.lock().unwrap();
        let spec = text.parse().ok().and_then(|number: usize| specs.get(number));
        spec.cloned().ok_or_else(|| vec![format!("{text} is no spec")])
    },
    changes: |before, after| {
        let total = |spec: &Spec| spec.services.values().map(Service::total_weight).sum::<u64>();
        format!("[{}, {}]", total(before), total(after))
    },
};

static WRITTEN: Mutex<Vec<Spec>> = Mutex::new(Vec::new());
