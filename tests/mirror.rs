//! Copies of requests go to another pool, and no client is any the wiser.

mod support;

use crossfade::{
    control::Command,
    live::{LivePool, Mirrored},
    spec::{Engine, Match, Mirror, Pin, PoolProtocol, Spec},
};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use support::*;
use tokio::io::AsyncWriteExt;

/// The ways of a client through the proxy.
const WAYS: [(Engine, bool); 3] =
    [(Engine::Native, false), (Engine::Hyper, false), (Engine::Native, true)];

/// What a backend was asked.
#[derive(Clone, Debug)]
struct Asked {
    line: String,
    headers: HeaderMap,
    body: String,
}

type Seen = Arc<Mutex<Vec<Asked>>>;

async fn asked(request: Request<hyper::body::Incoming>) -> Asked {
    let (head, body) = request.into_parts();
    let line = format!("{} {}", head.method, head.uri.path_and_query().unwrap());
    // A body that is cut short is none that could be told.
    let body = body.collect().await.map_or_else(|_| "cut".into(), |body| body.to_bytes());
    let body = String::from_utf8_lossy(&body).into_owned();
    Asked { line, headers: head.headers, body }
}

/// Keeps what it is asked and answers with its name.
async fn witness(protocol: PoolProtocol, name: &'static str) -> (Backend, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let handler = move |request| {
        let kept = kept.clone();
        async move {
            let asked = asked(request).await;
            kept.lock().unwrap().push(asked);
            text(name)
        }
    };
    let backend = match protocol {
        PoolProtocol::H1 => Backend::start(handler).await,
        PoolProtocol::H2 => Backend::http2(9, handler).await,
    };
    (backend, seen)
}

fn mirrored(blue: &Backend, green: &Backend, mirror: Mirror) -> Spec {
    let mut spec = spec(&[
        ("blue", pool("v1", 1, &[blue.spec_address()])),
        ("green", pool("v2", 0, &[green.spec_address()])),
    ]);
    spec.services["shop"].mirror = Some(mirror);
    spec
}

fn to_green() -> Mirror {
    Mirror::new("green".into())
}

fn posts() -> Mirror {
    Mirror { methods: vec!["POST".into()], body_bytes: 1000, ..to_green() }
}

async fn client(proxy: &Proxy, h2: bool) -> Client {
    if h2 { proxy.h2().await } else { proxy.h1().await }
}

fn green(proxy: &Proxy) -> Arc<LivePool> {
    proxy.live.pools().into_iter().find(|pool| &*pool.name == "green").unwrap()
}

/// Waits until so many copies have come to this.
async fn came_to(proxy: &Proxy, result: Mirrored, count: u64) {
    let pool = green(proxy);
    until(&format!("{count} of {result:?}"), || {
        pool.mirrors.count(result) == count && pool.mirrors.in_flight() == 0
    })
    .await;
}

/// Requests that the pool answered.
fn answered(pool: &LivePool) -> u64 {
    pool.stats.totals().requests.iter().flatten().sum()
}

#[tokio::test]
async fn a_copy_goes_to_the_other_pool_and_its_answer_nowhere() {
    for (engine, h2) in WAYS {
        for protocol in [PoolProtocol::H1, PoolProtocol::H2] {
            let (blue, originals) = witness(PoolProtocol::H1, "blue").await;
            let (other, copies) = witness(protocol, "green").await;
            let mut spec = Spec { engine, ..mirrored(&blue, &other, to_green()) };
            spec.services["shop"].pools["green"].protocol = protocol;
            let proxy = Proxy::start(spec).await;
            let mut client = client(&proxy, h2).await;
            for n in 1..=3 {
                let reply = client.get("/a?b=c").await;
                assert_eq!((reply.status, reply.text()), (200, "blue"));
                came_to(&proxy, Mirrored::Success, n).await;
            }
            let original = originals.lock().unwrap()[2].clone();
            let mut copy = copies.lock().unwrap()[2].clone();
            assert_eq!(copy.line, original.line, "{engine:?} {h2} {protocol:?}");
            assert_eq!(copy.headers.remove("x-crossfade-mirror").unwrap(), "1");
            copy.headers.remove("host");
            let mut headers = original.headers;
            headers.remove("host");
            assert_eq!(copy.headers, headers, "the request's id, too");
            assert_eq!(other.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
            let pool = green(&proxy);
            assert_eq!((answered(&pool), pool.in_flight().total()), (0, 0), "counted apart");
            let backends = pool.backends();
            assert_eq!((backends[0].started(), backends[0].finished()), (0, 0));
        }
    }
}

#[tokio::test]
async fn bodies_go_along_as_far_as_they_are_kept() {
    for (engine, h2) in WAYS {
        for protocol in [PoolProtocol::H1, PoolProtocol::H2] {
            let (blue, originals) = witness(protocol, "blue").await;
            let (other, copies) = witness(PoolProtocol::H1, "green").await;
            let mut spec = Spec { engine, ..mirrored(&blue, &other, posts()) };
            spec.services["shop"].pools["blue"].protocol = protocol;
            let proxy = Proxy::start(spec).await;
            let mut client = client(&proxy, h2).await;
            let mut send = async |body: Body| {
                let reply = client.send(post("/buy").body(body).unwrap()).await;
                assert_eq!((reply.status, reply.text()), (200, "blue"), "{engine:?} {h2}");
            };
            let pieces = |size| {
                let piece = || hyper::body::Frame::data(bytes::Bytes::from("x".repeat(size)));
                frames(vec![piece(), piece()])
            };
            send(full("a body")).await;
            came_to(&proxy, Mirrored::Success, 1).await;
            send(pieces(500)).await;
            came_to(&proxy, Mirrored::Success, 2).await;
            send(full("")).await;
            came_to(&proxy, Mirrored::Success, 3).await;
            send(full("x".repeat(1001))).await;
            came_to(&proxy, Mirrored::TooLarge, 1).await;
            send(pieces(501)).await;
            came_to(&proxy, Mirrored::TooLarge, 2).await;
            assert_eq!(client.get("/").await.text(), "blue", "GET is not among the methods");
            let bodies = |seen: &Seen| -> Vec<String> {
                seen.lock().unwrap().iter().map(|asked| asked.body.clone()).collect()
            };
            assert_eq!(bodies(&copies), ["a body", &"x".repeat(1000), ""], "{engine:?} {h2}");
            assert_eq!(bodies(&originals).len(), 6);
            let chunked = copies.lock().unwrap()[1].clone();
            assert_eq!(chunked.headers["content-length"], "1000");
            assert!(!chunked.headers.contains_key("transfer-encoding"));
        }
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_whole_is_not_copied() {
    for engine in [Engine::Native, Engine::Hyper] {
        let (blue, _) = witness(PoolProtocol::H1, "blue").await;
        let (other, copies) = witness(PoolProtocol::H1, "green").await;
        let proxy = Proxy::start(Spec { engine, ..mirrored(&blue, &other, posts()) }).await;
        let mut stream = proxy.connect().await;
        let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";
        stream.write_all(head).await.unwrap();
        until("it is on its way", || green(&proxy).mirrors.in_flight() == 1).await;
        drop(stream);
        came_to(&proxy, Mirrored::Incomplete, 1).await;
        assert!(copies.lock().unwrap().is_empty());
        // The next one on the same buffers is another request.
        let reply = client(&proxy, false).await.send(post("/").body(full("whole")).unwrap()).await;
        assert_eq!(reply.text(), "blue");
        came_to(&proxy, Mirrored::Success, 1).await;
        assert_eq!(copies.lock().unwrap()[0].body, "whole");
    }
}

#[tokio::test]
async fn whatever_the_other_pool_does_clients_are_answered() {
    for (engine, h2) in WAYS {
        let blue = Backend::named("blue").await;
        let (slow, word) = Backend::waiting("green").await;
        let mut spec = mirrored(&blue, &slow, Mirror { in_flight: 2, ..to_green() });
        spec.engine = engine;
        let proxy = Proxy::start(spec.clone()).await;
        let mut client = client(&proxy, h2).await;
        for _ in 0..5 {
            assert_eq!(client.get("/").await.text(), "blue");
        }
        let pool = green(&proxy);
        until("two are on their way", || slow.count() == 2).await;
        assert_eq!((pool.mirrors.in_flight(), pool.mirrors.count(Mirrored::Dropped)), (2, 3));
        word.notify_waiters();
        came_to(&proxy, Mirrored::Success, 2).await;

        // It dies in the middle.
        assert_eq!(client.get("/").await.text(), "blue");
        until("it is on its way", || slow.count() == 3).await;
        slow.kill();
        came_to(&proxy, Mirrored::Failed, 1).await;
        // Nobody is there, and that is no reason to leave it out.
        for n in 2..12 {
            assert_eq!(client.get("/").await.text(), "blue");
            came_to(&proxy, Mirrored::Failed, n).await;
        }
        assert!(pool.backends()[0].health.is_available());
        assert_eq!(pool.stats.totals().failures.iter().flatten().sum::<u64>(), 0);

        // It does not answer in time.
        let silent = Backend::raw(|stream| async move {
            let _stream = stream;
            std::future::pending::<()>().await;
        })
        .await;
        let service = &mut spec.services["shop"];
        service.pools["green"] = support::pool("v2", 0, &[silent.spec_address()]);
        service.timeouts.response = Duration::from_secs(1);
        proxy.apply(Command::Replace { spec: Box::new(spec) }).await.unwrap();
        assert_eq!(client.get("/").await.text(), "blue");
        came_to(&proxy, Mirrored::Failed, 12).await;
    }
}

#[tokio::test]
async fn what_leaves_does_not_wait_for_copies() {
    let blue = Backend::named("blue").await;
    let (slow, _word) = Backend::waiting("green").await;
    let spec = mirrored(&blue, &slow, to_green());
    let proxy = Proxy::start(spec.clone()).await;
    assert_eq!(proxy.h1().await.get("/").await.text(), "blue");
    until("it is on its way", || slow.count() == 1).await;
    let pool = green(&proxy);
    let mut without = spec;
    without.services["shop"].mirror = None;
    without.services["shop"].pools.shift_remove("green");
    let receipt = proxy.apply(Command::Replace { spec: Box::new(without) }).await.unwrap();
    assert_eq!(receipt.open(), 0);
    until("it is given up", || pool.mirrors.in_flight() == 0).await;
    assert_eq!(pool.mirrors.count(Mirrored::Failed), 1);
    assert!(proxy.drain(Duration::from_secs(3600)).await);
}

#[tokio::test]
async fn a_share_of_the_requests_is_copied_and_none_to_the_pool_they_are_for() {
    let (blue, _) = witness(PoolProtocol::H1, "blue").await;
    let (other, copies) = witness(PoolProtocol::H1, "green").await;
    let half = Mirror { share_percent: 50, in_flight: 10_000, ..to_green() };
    let mut spec = mirrored(&blue, &other, half);
    let matches =
        Match { path: crossfade::spec::PathMatch::Prefix("/green".into()), ..Match::default() };
    spec.services["shop"].pins = vec![Pin { matches, from: Vec::new(), pool: "green".into() }];
    let proxy = Proxy::start(spec.clone()).await;
    let mut client = proxy.h1().await;
    for _ in 0..200 {
        assert_eq!(client.get("/").await.text(), "blue");
    }
    until("they have arrived", || green(&proxy).mirrors.in_flight() == 0).await;
    let count = copies.lock().unwrap().len();
    assert!((50..150).contains(&count), "{count}");
    assert_eq!(client.get("/green").await.text(), "green");
    until("it is counted", || answered(&green(&proxy)) == 1).await;
    let seen = copies.lock().unwrap().clone();
    assert!(!seen.last().unwrap().headers.contains_key("x-crossfade-mirror"));
    assert_eq!(seen.len(), count + 1);
    let deleted = Command::DeletePool { service: "shop".into(), name: "green".into() };
    assert!(proxy.apply(deleted).await.is_err(), "a pin and the mirror name it");
}
