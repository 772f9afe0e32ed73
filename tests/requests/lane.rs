//! A proxy with its own recording backend, which runs cases one after the other: whatever the backend gets
//! in the meantime, this case has caused.

use crate::{
    backend::Backend,
    case::{self, Act, Case, Expectation, Pieces},
    client::{Fence, PATIENCE, play},
    support::{Proxy, pool, spec},
    text::show,
    transport::Transport,
    verdict::{self, Counts},
};
use crossfade::spec::{
    Engine, FieldMatch, HostPattern, Listener, Match, PathMatch, Pin, Protocols, Route, Service,
    Spec, Sticky, StickyKey, ValueMatch,
};
use indexmap::IndexMap;
use std::{net::SocketAddr, time::Duration};
use tokio::time::timeout;

pub struct Lane {
    transport: Transport,
    engine: Engine,
    proxy: Proxy,
    backend: Backend,
    fence: Fence,
}

impl Lane {
    pub async fn start(transport: Transport, engine: Engine) -> Self {
        let backend = Backend::start().await;
        let mut spec = desired(engine, &backend);
        spec.listeners.iter_mut().for_each(|listener| transport.equip(listener));
        let proxy = Proxy::start(spec).await;
        let fence = match transport {
            Transport::Http2 => Transport::Clear,
            other => other,
        };
        let fence = Fence::new(fence.connect(proxy.address).await);
        Self { transport, engine, proxy, backend, fence }
    }

    /// What went otherwise than the case says.
    pub async fn run(&mut self, case: &Case) -> Vec<String> {
        let Some(expected) = case.expected(self.engine) else { return Vec::new() };
        let mut complaints = Vec::new();
        for script in scripts(case) {
            complaints = self.play(case.listener, &script, expected).await;
            if !complaints.is_empty() {
                if let (Pieces::EveryCut, Some(Act::Send(rest))) = (case.pieces, script.last()) {
                    complaints.push(format!("when cut before {:?}", show(rest)));
                }
                break;
            }
        }
        complaints
    }

    async fn play(
        &mut self,
        listener: case::Listener,
        script: &[Act],
        expected: &Expectation,
    ) -> Vec<String> {
        let before = Counts::of(&self.proxy);
        let wire = self.transport.connect(self.address(listener)).await;
        let played = play(wire, script, expected, &mut self.fence, &self.backend).await;
        let outcome = match played {
            Ok(outcome) => outcome,
            Err(why) => {
                let seen = self.backend.take_unfinished();
                let seen: Vec<_> = seen.iter().map(|bytes| show(bytes)).collect();
                return vec![format!("{why}; the backend has half a message: {seen:?}")];
            }
        };
        let mut complaints = verdict::client(self.engine, expected, &outcome);
        if let Err(why) = self.fence.pass().await {
            complaints.push(format!("afterwards {why}"));
        }
        match timeout(PATIENCE, self.backend.take()).await {
            Ok(log) => complaints.extend(verdict::backend(self.engine, expected, &log)),
            Err(_) => complaints.push("the backend still waits for the rest of a message".into()),
        }
        let idle = async {
            while self.proxy.open() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(PATIENCE, idle).await.is_err() {
            complaints.push(format!("{} requests are still in flight", self.proxy.open()));
        }
        complaints.extend(verdict::counts(self.engine, expected, before, &self.proxy));
        complaints
    }

    fn address(&self, listener: case::Listener) -> SocketAddr {
        self.proxy.live.published.read(|s| s.listeners[listener as usize].bound.address)
    }
}

/// The script, or one for each way to cut it.
fn scripts(case: &Case) -> Vec<Vec<Act>> {
    let [Act::Send(bytes)] = &case.script[..] else { return vec![case.script.clone()] };
    match case.pieces {
        Pieces::Whole => vec![case.script.clone()],
        Pieces::EveryCut => (1..bytes.len())
            .map(|at| {
                let (first, last) = bytes.split_at(at);
                vec![Act::Send(first.into()), Act::Settle, Act::Send(last.into())]
            })
            .collect(),
        Pieces::Single => {
            vec![bytes.iter().flat_map(|byte| [Act::Send(vec![*byte]), Act::Settle]).collect()]
        }
    }
}

/// The listeners of [`case::Listener`], and these services: `shop` for everything, with a pin on
/// `canary: true` (v2) and the sticky key `x-user`; `inner` (v3) for the host `inner.test`; `small`, which
/// takes bodies of 16 bytes, below `/small`; `closed`, without a backend, below `/closed`.
fn desired(engine: Engine, backend: &Backend) -> Spec {
    let address = [crossfade::spec::BackendAddress::Socket(backend.address)];
    let mut spec = spec(&[("blue", pool("v1", 1, &address)), ("green", pool("v2", 0, &address))]);
    spec.engine = engine;
    spec.listeners = listeners();
    let shop = &mut spec.services["shop"];
    let canary = FieldMatch { name: "canary".into(), value: ValueMatch::Exact("true".into()) };
    shop.pins = vec![Pin {
        matches: Match { headers: vec![canary], ..Match::default() },
        from: Vec::new(),
        pool: "green".into(),
    }];
    let key = StickyKey::Header("x-user".into());
    shop.sticky = Some(Sticky { key, issue: false, max_age: None, salt: None });

    let one =
        |version: &str| Service::new(IndexMap::from([("only".into(), pool(version, 1, &address))]));
    let mut small = one("small");
    small.limits.body_bytes = 16;
    let mut closed = one("closed");
    closed.pools["only"].backends.clear();
    spec.services.extend([
        ("inner".into(), one("v3")),
        ("small".into(), small),
        ("closed".into(), closed),
    ]);
    for service in spec.services.values_mut() {
        service.expose_version = true;
        // Of what nobody waits for; below the patience of the tests.
        service.timeouts.response = Duration::from_secs(4);
    }
    let below = |path: &str| Match { path: PathMatch::Prefix(path.into()), ..Match::default() };
    let host = vec![HostPattern::Exact("inner.test".into())];
    let route = |name: &str, matches| Route::new(name.into(), matches, name.into());
    spec.routes.extend([
        route("small", below("/small")),
        route("closed", below("/closed")),
        route("inner", Match { hosts: host, ..Match::default() }),
    ]);
    spec
}

fn listeners() -> Vec<Listener> {
    let plain = Listener::new("127.0.0.1:0".parse().unwrap());
    // Longer than a busy machine may stand still: hyper counts from when it has taken the connection.
    let tiny = Duration::from_secs(2);
    let mut slow = plain.clone();
    slow.timeouts.headers = tiny;
    slow.timeouts.body = tiny;
    slow.timeouts.keep_alive = tiny;
    let mut trusted = plain.clone();
    trusted.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let mut http1 = plain.clone();
    http1.protocols = Protocols { h1: true, h2: false };
    vec![plain, slow, trusted, http1]
}
