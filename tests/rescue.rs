//! What fails on one pool is sent once more to another one, if that can do no harm; the client gets the good
//! answer, and the failure still counts.

mod support;

use bytes::Bytes;
use crossfade::{
    live::{Fault, PoolTotals, Reason, code_index},
    spec::{BackendAddress, Engine, Rescue, RescueOn, Spec, UnhealthyPool},
};
use http::{Request, Response};
use http_body_util::BodyExt;
use std::{sync::atomic::Ordering, time::Duration};
use support::*;

/// The ways of a client through the proxy.
const WAYS: [(Engine, bool); 3] =
    [(Engine::Native, false), (Engine::Hyper, false), (Engine::Native, true)];

/// Answers with the body that it got.
async fn echo() -> Backend {
    Backend::start(|request| async move {
        let method = request.method().to_string();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        text([method.as_bytes(), b" ", &body].concat())
    })
    .await
}

async fn answers(status: u16) -> Backend {
    Backend::start(move |request| async move {
        let _ = request.into_body().collect().await;
        let mut response = text("canary");
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    })
    .await
}

/// Takes what it is sent and closes without an answer.
async fn mute() -> Backend {
    Backend::raw(|mut stream| async move {
        use tokio::io::AsyncReadExt;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await
}

/// All traffic goes to the canary, and is rescued by the stable pool.
fn rescued(canary: &BackendAddress, stable: &BackendAddress) -> Spec {
    let mut spec = spec(&[
        ("green", pool("v2", 1, std::slice::from_ref(canary))),
        ("blue", pool("v1", 0, std::slice::from_ref(stable))),
    ]);
    let shop = &mut spec.services["shop"];
    shop.rescue = Some(Rescue::new("blue".into()));
    shop.retries.attempts = 1;
    shop.unhealthy_pool = UnhealthyPool::Fail;
    spec
}

async fn client(proxy: &Proxy, h2: bool) -> Client {
    if h2 { proxy.h2().await } else { proxy.h1().await }
}

fn request(method: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::builder().method(method).uri("/").header("host", "a").body(full(body)).unwrap()
}

fn totals(proxy: &Proxy, pool: &str) -> Box<PoolTotals> {
    let pools = proxy.live.pools();
    pools.iter().find(|it| &*it.name == pool).unwrap().stats.totals()
}

fn replies(totals: &PoolTotals, code: u16) -> u64 {
    totals.requests.iter().map(|codes| codes[code_index(code)]).sum()
}

async fn check(
    spec: &Spec,
    (method, body): (&str, &'static str),
    (status, answer): (u16, &str),
    failed: Option<Reason>,
) {
    for (engine, h2) in WAYS {
        let proxy = Proxy::start(Spec { engine, ..spec.clone() }).await;
        let case = format!("{method} over {engine:?}, h2 {h2}");
        let reply = client(&proxy, h2).await.send(request(method, body)).await;
        assert_eq!(reply.status, status, "{case}");
        if status == 200 {
            assert_eq!(reply.text(), answer, "{case}");
        }
        let (answerer, other) = if status == 200 { ("blue", "green") } else { ("green", "blue") };
        until("it is recorded", || replies(&totals(&proxy, answerer), status) == 1).await;
        assert_eq!(replies(&totals(&proxy, other), status), 0, "{case}");
        let green = totals(&proxy, "green");
        assert_eq!(green.rescued, u64::from(status == 200), "{case}");
        assert_eq!(totals(&proxy, "blue").rescued, 0, "{case}");
        let failures = &green.failures[Fault::Upstream as usize];
        assert_eq!(failures.iter().sum::<u64>(), u64::from(failed.is_some()), "{case}");
        if let Some(reason) = failed {
            assert_eq!(failures[reason as usize], 1, "{case}");
        }
        until("nothing is in flight", || proxy.open() == 0).await;
    }
}

#[tokio::test]
async fn what_was_never_sent_is_rescued_whatever_it_is() {
    let (dead, blue) = (dead_address(), echo().await);
    let spec = rescued(&dead, &blue.spec_address());
    for (method, body, answer) in
        [("GET", "", "GET "), ("POST", "order", "POST order"), ("PUT", "x", "PUT x")]
    {
        check(&spec, (method, body), (200, answer), Some(Reason::ConnectFailed)).await;
    }
}

#[tokio::test]
async fn what_was_sent_is_rescued_if_it_may_be_repeated() {
    let (green, blue) = (mute().await, echo().await);
    let spec = rescued(&green.spec_address(), &blue.spec_address());
    let reset = Some(Reason::UpstreamReset);
    check(&spec, ("GET", ""), (200, "GET "), reset).await;
    check(&spec, ("PUT", "body"), (200, "PUT body"), reset).await;
    check(&spec, ("POST", "order"), (502, ""), reset).await;
}

#[tokio::test]
async fn an_answer_that_says_failed_is_exchanged_for_a_good_one() {
    let blue = echo().await;
    for status in [500, 503, 599] {
        let green = answers(status).await;
        let spec = rescued(&green.spec_address(), &blue.spec_address());
        let failed = Some(Reason::ServerError);
        check(&spec, ("GET", ""), (200, "GET "), failed).await;
        check(&spec, ("PUT", "body"), (200, "PUT body"), failed).await;
        check(&spec, ("POST", "order"), (status, ""), None).await;
    }
    let green = answers(404).await;
    let spec = rescued(&green.spec_address(), &blue.spec_address());
    check(&spec, ("GET", ""), (404, ""), None).await;
}

#[tokio::test]
async fn nonsense_and_silence_are_rescued() {
    let blue = echo().await;
    let nonsense = Backend::raw(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").await;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    let spec = rescued(&nonsense.spec_address(), &blue.spec_address());
    check(&spec, ("GET", ""), (200, "GET "), Some(Reason::BadResponse)).await;

    let silent = Backend::start(|_| std::future::pending::<Response<Body>>()).await;
    let mut spec = rescued(&silent.spec_address(), &blue.spec_address());
    spec.services["shop"].timeouts.response = Duration::from_secs(1);
    check(&spec, ("GET", ""), (200, "GET "), Some(Reason::ResponseTimeout)).await;
    check(&spec, ("POST", ""), (504, ""), Some(Reason::ResponseTimeout)).await;
}

#[tokio::test]
async fn a_pool_without_a_backend_is_rescued() {
    let (green, blue) = (answers(200).await, echo().await);
    let mut spec = rescued(&green.spec_address(), &blue.spec_address());
    spec.services["shop"].pools["green"].backends[0].drained = true;
    check(&spec, ("POST", "order"), (200, "POST order"), Some(Reason::NoBackend)).await;
    let on = RescueOn { failure: false, server_error: true };
    spec.services["shop"].rescue.as_mut().unwrap().on = on;
    check(&spec, ("POST", "order"), (503, ""), Some(Reason::NoBackend)).await;
}

#[tokio::test]
async fn an_answer_stays_when_there_is_nobody_to_rescue() {
    let (green, blue) = (answers(500).await, echo().await);
    let spec = rescued(&green.spec_address(), &blue.spec_address());
    let with = |change: &dyn Fn(&mut Spec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        spec
    };
    let rescue = |spec: &mut Spec, change: &dyn Fn(&mut Rescue)| {
        change(spec.services["shop"].rescue.as_mut().unwrap());
    };
    for without in [
        with(&|spec| rescue(spec, &|it| it.budget_percent = 0)),
        with(&|spec| rescue(spec, &|it| it.on.server_error = false)),
        with(&|spec| rescue(spec, &|it| it.to = "green".into())),
        with(&|spec| spec.services["shop"].rescue = None),
        with(&|spec| spec.services["shop"].pools["blue"].drained = true),
        with(&|spec| spec.services["shop"].pools["blue"].backends[0].drained = true),
    ] {
        check(&without, ("GET", ""), (500, ""), None).await;
    }
}

#[tokio::test]
async fn a_body_that_was_not_kept_is_not_sent_again() {
    let (green, blue) = (answers(500).await, echo().await);
    let mut spec = rescued(&green.spec_address(), &blue.spec_address());
    spec.services["shop"].retries.buffer = 3;
    check(&spec, ("PUT", "four"), (500, ""), None).await;
    spec.services["shop"].retries.buffer = 4;
    check(&spec, ("PUT", "four"), (200, "PUT four"), Some(Reason::ServerError)).await;
}

#[tokio::test]
async fn a_rescue_is_one_try() {
    let (green, blue) = (mute().await, mute().await);
    let mut spec = rescued(&green.spec_address(), &blue.spec_address());
    spec.services["shop"].retries.attempts = 3;
    let proxy = Proxy::start(spec).await;
    let reply = proxy.h1().await.get("/").await;
    assert_eq!(reply.status, 502);
    assert_eq!(green.connections.load(Ordering::SeqCst), 3, "retries come first");
    assert_eq!(blue.connections.load(Ordering::SeqCst), 1);
    until("it is recorded", || replies(&totals(&proxy, "blue"), 502) == 1).await;
    assert_eq!(totals(&proxy, "green").rescued, 1);
}

#[tokio::test]
async fn rescues_end_with_their_budget() {
    let (green, blue) = (answers(500).await, echo().await);
    let proxy = Proxy::start(rescued(&green.spec_address(), &blue.spec_address())).await;
    let mut client = proxy.h1().await;
    let mut seen = Vec::new();
    // 20 % of a hundred requests are fewer than the 30 of ten seconds.
    for _ in 0..100 {
        seen.push(client.get("/").await.status);
    }
    let rescued = seen.iter().filter(|status| **status == 200).count() as u64;
    assert!((30..100).contains(&rescued), "{rescued}");
    until("all are recorded", || {
        replies(&totals(&proxy, "green"), 500) + replies(&totals(&proxy, "blue"), 200) == 100
    })
    .await;
    let green = totals(&proxy, "green");
    assert_eq!(green.rescued, rescued);
    assert_eq!(green.failures[Fault::Upstream as usize][Reason::ServerError as usize], rescued);
}
