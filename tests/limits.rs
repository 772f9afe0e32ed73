//! No more requests of a service are in flight than it allows; the others wait their turn, and not for ever.

mod support;

use crossfade::{
    control::Command,
    live::{Fault, Reason},
    spec::{Engine, Match, PathMatch, PoolProtocol, Route, ServiceLimits, Spec},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::*;
use tokio::{io::AsyncWriteExt, sync::Semaphore, task::JoinHandle};

const HOUR: Duration = Duration::from_secs(3600);

/// The ways of a client through the proxy.
const WAYS: [(Engine, bool); 3] =
    [(Engine::Native, false), (Engine::Hyper, false), (Engine::Native, true)];

/// Answers as many requests as it has got words, with their paths.
struct Held {
    backend: Backend,
    words: Arc<Semaphore>,
    most: Arc<AtomicUsize>,
    /// What it was asked for, in that order.
    paths: Arc<Mutex<Vec<String>>>,
}

async fn held() -> Held {
    let (words, most) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let now = Arc::new(AtomicUsize::new(0));
    let paths: Arc<Mutex<Vec<String>>> = Arc::default();
    let asked = paths.clone();
    let (wait, seen) = (words.clone(), most.clone());
    let backend = Backend::start(move |request| {
        let (wait, seen, now) = (wait.clone(), seen.clone(), now.clone());
        asked.lock().unwrap().push(request.uri().path().to_owned());
        async move {
            seen.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            wait.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            text(request.uri().path().to_owned())
        }
    })
    .await;
    Held { backend, words, most, paths }
}

fn limited(held: &Held, limits: ServiceLimits) -> Spec {
    let mut spec = spec(&[("blue", pool("v1", 1, &[held.backend.spec_address()]))]);
    spec.services["shop"].limits = limits;
    spec
}

fn limits(in_flight: u32, queue: u32) -> ServiceLimits {
    ServiceLimits { in_flight: Some(in_flight), queue, queue_timeout: HOUR, ..Default::default() }
}

async fn client(proxy: &Proxy, h2: bool) -> Client {
    if h2 { proxy.h2().await } else { proxy.h1().await }
}

/// A request on a connection of its own.
async fn send(proxy: &Proxy, h2: bool, path: &'static str) -> JoinHandle<Reply> {
    let mut client = client(proxy, h2).await;
    tokio::spawn(async move { client.get(path).await })
}

fn waiting(proxy: &Proxy) -> usize {
    proxy.live.published.read(|snapshot| snapshot.services[0].gate.waiting())
}

fn taken(proxy: &Proxy) -> u64 {
    proxy.live.published.read(|snapshot| snapshot.services[0].gate.taken())
}

fn failures(proxy: &Proxy, reason: Reason) -> u64 {
    let totals = proxy.live.pools()[0].stats.totals();
    totals.failures[Fault::Proxy as usize][reason as usize]
}

#[tokio::test]
async fn who_finds_no_place_waits_in_turn() {
    for (engine, h2) in WAYS {
        let held = held().await;
        let proxy = Proxy::start(Spec { engine, ..limited(&held, limits(2, 2)) }).await;
        let mut sent = Vec::new();
        for (path, in_flight, queued) in [("/1", 1, 0), ("/2", 2, 0), ("/3", 2, 1), ("/4", 2, 2)] {
            sent.push(send(&proxy, h2, path).await);
            until("it has its place", || {
                held.backend.count() == in_flight && waiting(&proxy) == queued
            })
            .await;
        }
        let reply = client(&proxy, h2).await.get("/5").await;
        assert_eq!(reply.status, 503, "{engine:?} {h2}");
        assert_eq!(reply.headers["x-crossfade-error"], "queue_full");
        assert!(reply.headers.contains_key("retry-after"));
        until("it is counted", || failures(&proxy, Reason::QueueFull) == 1).await;

        held.words.add_permits(1);
        until("the third goes on", || held.backend.count() == 3 && waiting(&proxy) == 1).await;
        held.words.add_permits(3);
        for sent in sent {
            assert_eq!(sent.await.unwrap().status, 200);
        }
        assert_eq!(held.most.load(Ordering::SeqCst), 2, "{engine:?} {h2}");
        assert_eq!(*held.paths.lock().unwrap(), ["/1", "/2", "/3", "/4"], "{engine:?} {h2}");
        until("all places are free", || taken(&proxy) == 0 && waiting(&proxy) == 0).await;
    }
}

#[tokio::test]
async fn nobody_waits_for_ever_nor_where_there_is_no_queue() {
    let short = ServiceLimits { queue_timeout: Duration::from_millis(50), ..limits(1, 9) };
    for limits in [short, limits(1, 0)] {
        for (engine, h2) in WAYS {
            let held = held().await;
            let proxy = Proxy::start(Spec { engine, ..limited(&held, limits) }).await;
            let first = send(&proxy, h2, "/1").await;
            until("it is in flight", || held.backend.count() == 1).await;
            let reply = client(&proxy, h2).await.get("/2").await;
            assert_eq!(reply.status, 503);
            assert_eq!(reply.headers["x-crossfade-error"], "overloaded");
            assert!(reply.headers.contains_key("retry-after"));
            until("it is counted", || failures(&proxy, Reason::Overloaded) == 1).await;
            held.words.add_permits(2);
            assert_eq!(first.await.unwrap().text(), "/1");
            until("its place is free", || taken(&proxy) == 0).await;
            assert_eq!(client(&proxy, h2).await.get("/3").await.text(), "/3");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_in_the_queue_up() {
    for (engine, h2) in WAYS {
        let held = held().await;
        let proxy = Proxy::start(Spec { engine, ..limited(&held, limits(1, 9)) }).await;
        let first = send(&proxy, h2, "/1").await;
        until("it is in flight", || held.backend.count() == 1).await;
        let second = send(&proxy, h2, "/2").await;
        until("it waits", || waiting(&proxy) == 1).await;
        second.abort();
        until("it has left", || waiting(&proxy) == 0).await;
        held.words.add_permits(1);
        assert_eq!(first.await.unwrap().text(), "/1");
        until("its place is free", || taken(&proxy) == 0).await;
        assert_eq!(held.backend.count(), 1);
    }
}

#[tokio::test]
async fn who_waited_goes_where_the_traffic_goes_then() {
    for (engine, h2) in WAYS {
        let (held, green) = (held().await, Backend::named("green").await);
        let mut spec = limited(&held, limits(1, 9));
        let pools = &mut spec.services["shop"].pools;
        pools.insert("green".into(), pool("v2", 0, &[green.spec_address()]));
        let proxy = Proxy::start(Spec { engine, ..spec }).await;
        let first = send(&proxy, h2, "/1").await;
        until("it is in flight", || held.backend.count() == 1).await;
        let second = send(&proxy, h2, "/2").await;
        until("it waits", || waiting(&proxy) == 1).await;
        proxy.cutover("green").await;
        held.words.add_permits(1);
        assert_eq!(first.await.unwrap().text(), "/1");
        assert_eq!(second.await.unwrap().text(), "green", "{engine:?} {h2}");
    }
}

#[tokio::test]
async fn a_body_waits_with_its_request_and_a_retry_keeps_its_place() {
    let dead = dead_address();
    let held = held().await;
    let mut spec = limited(&held, limits(1, 9));
    spec.services["shop"].pools["blue"].backends.insert(dead, Default::default());
    spec.services["shop"].ejection.consecutive = 1000;
    let proxy = Proxy::start(spec).await;
    held.words.add_permits(1000);
    let mut client = proxy.h1().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert!(proxy.live.pools()[0].stats.totals().retries > 0);
    until("its place is free", || taken(&proxy) == 0).await;

    held.words.forget_permits(1000);
    let first = send(&proxy, false, "/1").await;
    until("it is in flight", || taken(&proxy) == 1).await;
    let mut stream = proxy.connect().await;
    let head = b"POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbo";
    stream.write_all(head).await.unwrap();
    until("it waits", || waiting(&proxy) == 1).await;
    stream.write_all(b"dy").await.unwrap();
    held.words.add_permits(2);
    assert_eq!(first.await.unwrap().text(), "/1");
    let mut reply = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut reply).await.unwrap();
    assert!(String::from_utf8_lossy(&reply).starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_backend_that_has_its_fill_is_passed_over() {
    for (engine, h2) in WAYS {
        let (one, other) = (held().await, held().await);
        let one_each = ServiceLimits { backend_in_flight: Some(1), ..Default::default() };
        let mut spec = limited(&one, one_each);
        let backends = &mut spec.services["shop"].pools["blue"].backends;
        backends.insert(other.backend.spec_address(), Default::default());
        let proxy = Proxy::start(Spec { engine, ..spec }).await;
        let reached = || one.backend.count() + other.backend.count();
        let first = send(&proxy, h2, "/1").await;
        until("it is in flight", || reached() == 1).await;
        let second = send(&proxy, h2, "/2").await;
        until("both are in flight", || reached() == 2).await;
        assert_eq!((one.backend.count(), other.backend.count()), (1, 1));
        let reply = client(&proxy, h2).await.get("/3").await;
        assert_eq!(reply.status, 503);
        assert_eq!(reply.headers["x-crossfade-error"], "overloaded");
        until("it is counted", || failures(&proxy, Reason::Overloaded) == 1).await;
        one.words.add_permits(9);
        other.words.add_permits(9);
        assert_eq!(first.await.unwrap().text(), "/1");
        assert_eq!(second.await.unwrap().text(), "/2");
        until("nothing is in flight", || proxy.open() == 0).await;
        assert_eq!(client(&proxy, h2).await.get("/4").await.text(), "/4");
    }
}

/// Shop and cart, each with a backend of its own and routes by path.
fn two_services(shop: &Held, cart: &Held) -> Spec {
    let mut spec = limited(shop, ServiceLimits::default());
    let mut other = spec.services["shop"].clone();
    other.pools["blue"] = pool("v1", 1, &[cart.backend.spec_address()]);
    spec.services.insert("cart".into(), other);
    let matches = Match { path: PathMatch::Prefix("/cart".into()), ..Match::default() };
    spec.routes.push(Route::new("cart".into(), matches, "cart".into()));
    spec
}

#[tokio::test]
async fn the_whole_proxy_has_a_limit() {
    for (engine, h2) in WAYS {
        let (shop, cart) = (held().await, held().await);
        let mut spec = Spec { engine, ..two_services(&shop, &cart) };
        spec.limits.in_flight = Some(2);
        // A queue of its own is no way round it.
        spec.services["cart"].limits = limits(9, 9);
        let proxy = Proxy::start(spec.clone()).await;
        let first = send(&proxy, h2, "/1").await;
        until("it is in flight", || shop.backend.count() == 1).await;
        let second = send(&proxy, h2, "/cart").await;
        until("both are in flight", || cart.backend.count() == 1).await;
        for path in ["/2", "/cart/2"] {
            let reply = client(&proxy, h2).await.get(path).await;
            assert_eq!(reply.status, 503, "{engine:?} {h2} {path}");
            assert_eq!(reply.headers["x-crossfade-error"], "overloaded");
            assert!(reply.headers.contains_key("retry-after"));
        }
        until("it is counted", || failures(&proxy, Reason::Overloaded) == 1).await;
        shop.words.add_permits(1);
        assert_eq!(first.await.unwrap().text(), "/1");
        until("its place is free", || taken(&proxy) == 0).await;
        let third = send(&proxy, h2, "/cart/3").await;
        until("it is in flight", || cart.backend.count() == 2).await;
        assert_eq!(client(&proxy, h2).await.get("/4").await.status, 503);
        // A reload lifts it.
        spec.limits.in_flight = None;
        proxy.apply(Command::Replace { spec: Box::new(spec) }).await.unwrap();
        shop.words.add_permits(1);
        assert_eq!(client(&proxy, h2).await.get("/5").await.status, 200);
        cart.words.add_permits(2);
        assert_eq!(second.await.unwrap().text(), "/cart");
        assert_eq!(third.await.unwrap().text(), "/cart/3");
    }
}

/// Open connections to the first backend.
fn connections(proxy: &Proxy) -> u64 {
    proxy.live.published.read(|s| s.services[0].pools[0].backends[0].connections())
}

fn connected(backend: &Backend, most: u32) -> Spec {
    let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
    let service = &mut spec.services["shop"];
    service.limits.backend_connections = Some(most);
    service.timeouts.connect = HOUR;
    service.timeouts.upstream_idle = HOUR;
    spec
}

#[tokio::test]
async fn who_needs_a_connection_that_there_may_not_be_waits_for_one() {
    for (engine, h2) in WAYS {
        let held = held().await;
        let mut spec = Spec { engine, ..connected(&held.backend, 1) };
        let proxy = Proxy::start(spec.clone()).await;
        let first = send(&proxy, h2, "/1").await;
        until("it is in flight", || held.backend.count() == 1).await;
        let second = send(&proxy, h2, "/2").await;
        until("it is on its way", || proxy.open() == 2).await;
        assert_eq!((connections(&proxy), held.backend.count()), (1, 1));
        held.words.add_permits(1);
        assert_eq!(first.await.unwrap().text(), "/1");
        until("the second is in flight", || held.backend.count() == 2).await;
        assert_eq!(connections(&proxy), 1);
        // Not for ever.
        spec.services["shop"].timeouts.connect = Duration::from_millis(20);
        proxy.apply(Command::Replace { spec: Box::new(spec) }).await.unwrap();
        let reply = client(&proxy, h2).await.get("/3").await;
        assert_eq!(reply.status, 503, "{engine:?} {h2}");
        assert_eq!(reply.headers["x-crossfade-error"], "overloaded");
        held.words.add_permits(9);
        assert_eq!(second.await.unwrap().text(), "/2");
        // What idles is used again.
        until("it is at rest", || proxy.open() == 0).await;
        let before = held.backend.connections.load(Ordering::SeqCst);
        assert_eq!(client(&proxy, h2).await.get("/4").await.text(), "/4");
        assert_eq!(held.backend.connections.load(Ordering::SeqCst), before, "{engine:?} {h2}");
        assert_eq!(held.most.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn cores_give_their_idle_connections_up_for_each_other() {
    let backend = Backend::named("blue").await;
    let mut spec = connected(&backend, 2);
    spec.threads = std::num::NonZeroUsize::new(3);
    let proxy = Proxy::start(spec).await;
    // More client connections than there are cores, and each core gets some.
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(proxy.h1().await);
    }
    for _ in 0..10 {
        for client in &mut clients {
            assert_eq!(client.get("/").await.status, 200);
            assert!(connections(&proxy) <= 2);
        }
    }
    let all = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            for _ in 0..50 {
                assert_eq!(client.get("/").await.status, 200);
            }
        })
    });
    let all: Vec<_> = all.collect();
    until("all are served", || {
        assert!(connections(&proxy) <= 2);
        all.iter().all(JoinHandle::is_finished)
    })
    .await;
    for client in all {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_place_on_a_connection_of_http2_comes_before_another_connection() {
    let (words, reached) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (wait, count) = (words.clone(), reached.clone());
    let backend = Backend::http2(1, move |_| {
        let wait = wait.clone();
        count.fetch_add(1, Ordering::SeqCst);
        async move {
            wait.acquire().await.unwrap().forget();
            text("blue")
        }
    })
    .await;
    let mut spec = connected(&backend, 1);
    spec.services["shop"].pools["blue"].protocol = PoolProtocol::H2;
    let proxy = Proxy::start(spec).await;
    let first = send(&proxy, true, "/1").await;
    until("it is in flight", || reached.load(Ordering::SeqCst) == 1).await;
    let second = send(&proxy, false, "/2").await;
    until("it is on its way", || proxy.open() == 2).await;
    words.add_permits(2);
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(second.await.unwrap().status, 200);
    assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
}
