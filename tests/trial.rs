//! What is counted for the comparison of two versions is the same on every way through the proxy, whatever comes of a
//! request: once, under the pool that its draw landed on.

mod support;

use bytes::Bytes;
use crossfade::{
    live::{LivePool, RouteCounts, Snapshot, Trial, TrialTotals},
    routing::{Salts, compile},
    spec::{
        Balance, Engine, FieldMatch, Match, Pin, PoolProtocol, Rescue, ServiceLimits, Spec, Sticky,
        StickyKey, UnhealthyPool, ValueMatch,
    },
};
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::{sync::Arc, time::Duration};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A way of a client through the proxy: by which engine, and who speaks HTTP/2.
#[derive(Clone, Copy, Debug)]
struct Way {
    engine: Engine,
    client_h2: bool,
    backend_h2: bool,
}

const WAYS: [Way; 6] = [
    Way { engine: Engine::Native, client_h2: false, backend_h2: false },
    Way { engine: Engine::Native, client_h2: false, backend_h2: true },
    Way { engine: Engine::Native, client_h2: true, backend_h2: false },
    Way { engine: Engine::Native, client_h2: true, backend_h2: true },
    Way { engine: Engine::Hyper, client_h2: false, backend_h2: false },
    Way { engine: Engine::Hyper, client_h2: false, backend_h2: true },
];

/// Does what the path says: answers with a status, or `reset`, `silent`, `cut` (in the middle of a body), `open` (a
/// body that does not end).
async fn origin(h2: bool) -> Backend {
    if h2 { origin_h2().await } else { origin_h1().await }
}

async fn origin_h1() -> Backend {
    Backend::raw(|mut stream| async move {
        let mut got = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let Ok(read @ 1..) = stream.read(&mut buffer).await else { return };
            got.extend_from_slice(&buffer[..read]);
            while let Some(end) = got.windows(4).position(|it| it == b"\r\n\r\n") {
                let head = String::from_utf8(got.drain(..end + 4).collect()).unwrap();
                let answer = match head.split(' ').nth(1).unwrap() {
                    "/reset" => return,
                    "/silent" => continue,
                    "/cut" | "/open" => {
                        "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_owned()
                    }
                    status => format!("HTTP/1.1 {} X\r\ncontent-length: 2\r\n\r\nok", &status[1..]),
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
                if head.contains("/cut ") {
                    return;
                }
            }
        }
    })
    .await
}

async fn origin_h2() -> Backend {
    Backend::bare_http2(|mut request, mut respond| async move {
        while let Some(Ok(_)) = request.body_mut().data().await {}
        let head = |status: u16| Response::builder().status(status).body(()).unwrap();
        match request.uri().path() {
            "/reset" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            "/silent" => std::future::pending().await,
            path @ ("/cut" | "/open") => {
                let mut body = respond.send_response(head(200), false).unwrap();
                body.send_data("half".into(), false).unwrap();
                if path == "/cut" {
                    // A reset that overtakes the head comes to the same.
                    tokio::task::yield_now().await;
                    body.send_reset(h2::Reason::INTERNAL_ERROR);
                } else {
                    let _ = std::future::poll_fn(|cx| body.poll_reset(cx)).await;
                }
            }
            status => {
                let status = status[1..].parse().unwrap();
                let mut body = respond.send_response(head(status), false).unwrap();
                body.send_data("ok".into(), true).unwrap();
            }
        }
    })
    .await
}

/// All draws land on green.
fn green(way: Way, backends: &[&Backend]) -> Spec {
    let addresses: Vec<_> = backends.iter().map(|backend| backend.spec_address()).collect();
    let mut green = pool("v2", 1, &addresses);
    if way.backend_h2 {
        green.protocol = PoolProtocol::H2;
    }
    let mut spec = spec(&[("green", green), ("blue", pool("v1", 0, &[]))]);
    let shop = &mut spec.services["shop"];
    shop.retries.attempts = 1;
    shop.unhealthy_pool = UnhealthyPool::Fail;
    Spec { engine: way.engine, ..spec }
}

/// A proxy that counts, as it would for a rollout of the service; slow is what takes longer than `limit`.
async fn counting_above(limit: Duration, spec: Spec) -> Proxy {
    let proxy = Proxy::start(spec.clone()).await;
    let next = proxy.live.published.read(|snapshot| {
        let mut services = snapshot.services.clone();
        let limit = u64::try_from(limit.as_nanos()).unwrap();
        let first_errors = spec.services["shop"].sticky.as_ref().map(|_| Arc::default());
        let pools = snapshot.services[0].pools.iter().map(|entry| &entry.pool);
        services[0].trial = Some(Trial::new(1, limit, first_errors, pools, &["all".into()]));
        Snapshot {
            revision: snapshot.revision,
            table: compile(&spec, &Salts::default()),
            services,
            listeners: snapshot.listeners.clone(),
            challenges: snapshot.challenges.clone(),
        }
    });
    proxy.live.published.swap(next).quiesced().await;
    proxy
}

async fn counting(spec: Spec) -> Proxy {
    counting_above(Duration::from_secs(3600), spec).await
}

async fn client(proxy: &Proxy, way: Way) -> Client {
    if way.client_h2 { proxy.h2().await } else { proxy.h1().await }
}

fn live(proxy: &Proxy, pool: &str) -> Arc<LivePool> {
    proxy.live.pools().into_iter().find(|it| &*it.name == pool).unwrap()
}

/// Requests, errors and slow ones of a pool.
fn counts(proxy: &Proxy, pool: &str) -> (u64, u64, u64) {
    let TrialTotals { requests, errors, slow, latency } =
        live(proxy, pool).counts().expect("it is counted").read();
    assert_eq!(latency.iter().sum::<u64>(), requests);
    (requests, errors, slow)
}

/// Waits until green has these counts and nothing is in flight; blue has none.
async fn expect(proxy: &Proxy, what: &str, counted: (u64, u64, u64)) {
    let is_over = || proxy.open() == 0 && counts(proxy, "green").0 >= counted.0;
    until(what, is_over).await;
    assert_eq!(counts(proxy, "green"), counted, "{what}");
    assert_eq!(counts(proxy, "blue"), (0, 0, 0), "{what}");
}

#[tokio::test]
async fn an_answer_counts_once_and_is_an_error_from_500_on() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let proxy = counting(green(way, &[&backend])).await;
        let mut client = client(&proxy, way).await;
        let (mut requests, mut errors) = (0, 0);
        for (status, is_error) in [(200, 0), (404, 0), (429, 0), (500, 1), (503, 1)] {
            assert_eq!(client.get(&format!("/{status}")).await.status, status, "{way:?}");
            (requests, errors) = (requests + 1, errors + is_error);
            expect(&proxy, &format!("{way:?} {status}"), (requests, errors, 0)).await;
        }
        let of_route = live(&proxy, "green").counts().unwrap().routes()[&Some("all".into())];
        assert_eq!(of_route, RouteCounts { requests, errors, slow: 0 }, "{way:?}");
    }
}

#[tokio::test]
async fn what_takes_longer_than_the_limit_is_slow() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let proxy = counting_above(Duration::ZERO, green(way, &[&backend])).await;
        client(&proxy, way).await.get("/200").await;
        expect(&proxy, &format!("{way:?}"), (1, 0, 1)).await;
    }
}

#[tokio::test]
async fn what_the_backend_breaks_off_is_an_error() {
    for way in WAYS {
        for path in ["/reset", "/cut"] {
            let backend = origin(way.backend_h2).await;
            let proxy = counting(green(way, &[&backend])).await;
            let reply = client(&proxy, way).await.try_send(get(path).body(full("")).unwrap()).await;
            assert!(reply.map_or(true, |reply| reply.status == 502), "{way:?} {path}");
            expect(&proxy, &format!("{way:?} {path}"), (1, 1, 0)).await;
        }
    }
}

#[tokio::test]
async fn silence_is_an_error_and_slow() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let mut spec = green(way, &[&backend]);
        spec.services["shop"].timeouts.response = Duration::from_millis(100);
        let proxy = counting(spec).await;
        assert_eq!(client(&proxy, way).await.get("/silent").await.status, 504, "{way:?}");
        expect(&proxy, &format!("{way:?}"), (1, 1, 1)).await;
    }
}

#[tokio::test]
async fn the_deadline_of_a_request_is_an_error_when_its_backend_is_silent() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let mut spec = green(way, &[&backend]);
        spec.services["shop"].timeouts.request = Duration::from_millis(100);
        let proxy = counting(spec).await;
        assert_eq!(client(&proxy, way).await.get("/silent").await.status, 504, "{way:?}");
        expect(&proxy, &format!("{way:?}"), (1, 1, 0)).await;
    }
}

#[tokio::test]
async fn nobody_there_is_an_error() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let mut spec = green(way, &[&backend]);
        let backends = &mut spec.services["shop"].pools["green"].backends;
        let settings = backends[0];
        *backends = [(dead_address(), settings)].into_iter().collect();
        let proxy = counting(spec.clone()).await;
        assert_eq!(client(&proxy, way).await.get("/200").await.status, 502, "{way:?}");
        expect(&proxy, &format!("{way:?} refused"), (1, 1, 0)).await;

        spec.services["shop"].pools["green"].backends[0].drained = true;
        let proxy = counting(spec).await;
        let reply = client(&proxy, way).await.get("/200").await;
        assert_eq!(reply.headers["x-crossfade-error"], "no_backend", "{way:?}");
        expect(&proxy, &format!("{way:?} no backend"), (1, 1, 0)).await;
    }
}

#[tokio::test]
async fn the_first_attempt_alone_counts_whoever_answers_in_the_end() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let mut retried = green(way, &[&backend]);
        let shop = &mut retried.services["shop"];
        shop.retries.attempts = 2;
        shop.balance = Balance::RoundRobin;
        let settings = shop.pools["green"].backends[0];
        shop.pools["green"].backends.insert(dead_address(), settings);
        let proxy = counting(retried).await;
        let mut client_of = client(&proxy, way).await;
        for _ in 0..4 {
            assert_eq!(client_of.get("/200").await.status, 200, "{way:?}");
        }
        let retries = live(&proxy, "green").stats.totals().retries;
        assert!((1..=4).contains(&retries), "{way:?}");
        expect(&proxy, &format!("{way:?} retried"), (4, retries, 0)).await;

        let stable = Backend::named("stable").await;
        let mut rescued = green(way, &[&backend]);
        rescued.services["shop"].pools["blue"] = pool("v1", 0, &[stable.spec_address()]);
        rescued.services["shop"].rescue = Some(Rescue::new("blue".into()));
        let proxy = counting(rescued.clone()).await;
        let mut client_of = client(&proxy, way).await;
        for (path, requests) in [("/500", 1), ("/reset", 2)] {
            assert_eq!(client_of.get(path).await.text(), "stable", "{way:?}");
            expect(&proxy, &format!("{way:?} rescued {path}"), (requests, requests, 0)).await;
        }
        rescued.services["shop"].pools["green"].backends[0].drained = true;
        let proxy = counting(rescued).await;
        assert_eq!(client(&proxy, way).await.get("/200").await.text(), "stable", "{way:?}");
        expect(&proxy, &format!("{way:?} rescued from nobody"), (1, 1, 0)).await;
    }
}

#[tokio::test]
async fn what_a_pin_decides_and_what_is_shed_do_not_count() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let field = FieldMatch { name: "canary".into(), value: ValueMatch::Exact("true".into()) };
        let matches = Match { headers: vec![field], ..Match::default() };
        let mut pinned = green(way, &[&backend]);
        let pin = Pin { matches, from: Vec::new(), pool: "green".into() };
        pinned.services["shop"].pins.push(pin);
        let proxy = counting(pinned).await;
        let mut client_of = client(&proxy, way).await;
        let request = get("/500").header("canary", "true").body(full("")).unwrap();
        assert_eq!(client_of.send(request).await.status, 500, "{way:?}");
        client_of.get("/200").await;
        expect(&proxy, &format!("{way:?} pinned"), (1, 0, 0)).await;

        let of_service = ServiceLimits { in_flight: Some(1), queue: 0, ..Default::default() };
        let of_backend = ServiceLimits { backend_in_flight: Some(1), ..Default::default() };
        for limits in [of_service, of_backend] {
            let mut limited = green(way, &[&backend]);
            limited.services["shop"].limits = limits;
            let proxy = counting(limited).await;
            let mut waiting = client(&proxy, way).await;
            let waits = tokio::spawn(async move { waiting.get("/silent").await });
            until("one is in flight", || proxy.open() == 1).await;
            let reply = client(&proxy, way).await.get("/200").await;
            assert_eq!(reply.headers["x-crossfade-error"], "overloaded", "{way:?}");
            waits.abort();
            expect(&proxy, &format!("{way:?} shed"), (0, 0, 0)).await;
            client(&proxy, way).await.get("/200").await;
            expect(&proxy, &format!("{way:?} after it"), (1, 0, 0)).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_counts_only_if_it_had_an_answer() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let proxy = counting(green(way, &[&backend])).await;
        for (path, counted) in [("/silent", 0), ("/open", 1)] {
            let mut client = client(&proxy, way).await;
            let (seen, sees) = tokio::sync::oneshot::channel();
            let waits = tokio::spawn(async move {
                let response = client.head(get(path).body(full("")).unwrap()).await;
                let _ = seen.send(());
                std::future::pending::<()>().await;
                drop(response);
            });
            until("it is in flight", || proxy.open() == 1).await;
            if counted > 0 {
                sees.await.unwrap();
            }
            assert_eq!(counts(&proxy, "green").0, 0, "{way:?}: it is not over");
            waits.abort();
            expect(&proxy, &format!("{way:?} {path}"), (counted, 0, 0)).await;
        }
    }
}

#[tokio::test]
async fn what_the_client_does_wrong_does_not_count() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let mut spec = green(way, &[&backend]);
        spec.services["shop"].limits.body_bytes = 3;
        spec.listeners[0].timeouts.body = Duration::from_millis(100);
        let proxy = counting(spec).await;
        let reply = client(&proxy, way).await.send(post("/200").body(full("four")).unwrap()).await;
        assert_eq!(reply.status, 413, "{way:?}");
        let drips = stream::iter([Ok(Frame::data(Bytes::from("a")))]).chain(stream::pending());
        let body = BodyExt::boxed(StreamBody::new(drips));
        let reply = client(&proxy, way).await.send(post("/silent").body(body).unwrap()).await;
        assert_eq!(reply.status, 408, "{way:?}");
        expect(&proxy, &format!("{way:?}"), (0, 0, 0)).await;
    }
}

#[tokio::test]
async fn a_tunnel_counts_when_it_begins() {
    for engine in [Engine::Native, Engine::Hyper] {
        let way = Way { engine, ..WAYS[0] };
        let backend = Backend::raw(|mut stream| async move {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.read(&mut [0; 1]).await;
        })
        .await;
        let proxy = counting(green(way, &[&backend])).await;
        let mut client = proxy.connect().await;
        let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
        client.write_all(head.as_bytes()).await.unwrap();
        assert!(client.read(&mut [0; 4096]).await.unwrap() > 0);
        until("it is counted", || counts(&proxy, "green") == (1, 0, 0)).await;
        assert_eq!(proxy.open(), 1, "it goes on");
        drop(client);
        expect(&proxy, &format!("{way:?}"), (1, 0, 0)).await;
    }
}

#[tokio::test]
async fn a_call_of_grpc_is_what_its_status_says() {
    let backend = Backend::bare_http2(|mut request, mut respond| async move {
        while let Some(Ok(_)) = request.body_mut().data().await {}
        let (kind, code) = request.uri().path()[1..].split_once('/').unwrap();
        let status: HeaderMap =
            [("grpc-status".parse().unwrap(), code.parse().unwrap())].into_iter().collect();
        let mut head =
            Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        if kind == "alone" {
            head.headers_mut().extend(status);
            respond.send_response(head, true).unwrap();
            return;
        }
        let mut body = respond.send_response(head, false).unwrap();
        body.send_data("\0\0\0\0\0".into(), kind == "none").unwrap();
        match kind {
            "call" => body.send_trailers(status).unwrap(),
            "late" => std::future::pending().await,
            _ => {}
        }
    })
    .await;
    let way = WAYS[3];
    let proxy = counting(green(way, &[&backend])).await;
    let mut client = proxy.h2().await;
    let call = |path: &str| post(path).header("content-type", "application/grpc+proto");
    let (mut requests, mut errors) = (0, 0);
    for (path, is_error) in [
        ("/call/0", 0),
        ("/call/2", 1),
        ("/call/4", 1),
        ("/call/5", 0),
        ("/call/12", 0),
        ("/call/13", 1),
        ("/call/14", 1),
        ("/call/x", 1),
        ("/alone/0", 0),
        ("/alone/14", 1),
        ("/alone/7", 0),
        ("/none/0", 1),
    ] {
        assert_eq!(client.send(call(path).body(full("")).unwrap()).await.status, 200);
        (requests, errors) = (requests + 1, errors + is_error);
        expect(&proxy, path, (requests, errors, 0)).await;
    }
    let late = call("/late/0").header("grpc-timeout", "100m").body(full("")).unwrap();
    let _ = client.try_send(late).await;
    expect(&proxy, "its time is up", (requests + 1, errors + 1, 0)).await;

    let gone = call("/late/0").body(full("")).unwrap();
    let mut other = proxy.h2().await;
    let waits = tokio::spawn(async move { other.try_send(gone).await });
    until("it is in flight", || proxy.open() == 1).await;
    waits.abort();
    expect(&proxy, "nobody knows what it came to", (requests + 1, errors + 1, 0)).await;
}

#[tokio::test]
async fn of_a_users_errors_the_first_counts() {
    for way in WAYS {
        let backend = origin(way.backend_h2).await;
        let mut spec = green(way, &[&backend]);
        let key = StickyKey::Header("x-user".into());
        spec.services["shop"].sticky =
            Some(Sticky { key, issue: false, max_age: None, salt: None });
        let proxy = counting(spec).await;
        let mut client = client(&proxy, way).await;
        let as_user = |path: &str, user: &str| -> Request<Body> {
            get(path).header("x-user", user).body(full("")).unwrap()
        };
        for (path, user) in
            [("/500", "ann"), ("/500", "ann"), ("/200", "ann"), ("/500", "bob"), ("/503", "bob")]
        {
            client.send(as_user(path, user)).await;
        }
        expect(&proxy, &format!("{way:?}"), (5, 2, 0)).await;
    }
}
