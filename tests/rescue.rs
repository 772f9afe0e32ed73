//! What fails on one pool is sent once more to another one, if that can do no harm; the client gets the good
//! answer, and the failure still counts.

mod support;

use bytes::Bytes;
use crossfade::{
    control::Command,
    live::{Fault, PoolTotals, Reason, code_index},
    spec::{
        BackendAddress, Engine, FieldMatch, Match, Pin, Rescue, RescueOn, Spec, UnhealthyPool,
        ValueMatch,
    },
};
use http::{Request, Response};
use http_body_util::BodyExt;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use support::*;
use tokio::sync::Notify;

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

/// Answers 500, or not at all, on a word.
async fn fails_late() -> (Backend, Arc<Notify>) {
    let word = Arc::new(Notify::new());
    let waits = word.clone();
    let backend = Backend::raw(move |mut stream| {
        let waits = waits.clone();
        async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            waits.notified().await;
            if !request[..read].starts_with(b"GET /silent") {
                let answer = b"HTTP/1.1 500 Failed\r\ncontent-length: 0\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.read(&mut request).await;
            }
        }
    })
    .await;
    (backend, word)
}

/// What a request that is under way on the canary gets, when the configuration changes before the canary fails.
async fn after(change: impl Fn(&mut Spec), path: &str, headers: &[(&str, &str)]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (engine, h2) in WAYS {
        let ((green, word), blue) = (fails_late().await, echo().await);
        let mut spec = Spec { engine, ..rescued(&green.spec_address(), &blue.spec_address()) };
        let canary = FieldMatch { name: "canary".into(), value: ValueMatch::Exact("true".into()) };
        let matches = Match { headers: vec![canary], ..Match::default() };
        let pin = Pin { matches, from: Vec::new(), pool: "green".into() };
        spec.services["shop"].pins.push(pin);
        let proxy = Proxy::start(spec.clone()).await;
        let mut client = client(&proxy, h2).await;
        let mut request = Request::get(path).header("host", "a");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = client.send(request.body(full("")).unwrap());
        let changed = async {
            until("it is in flight", || green.connections.load(Ordering::SeqCst) == 1).await;
            change(&mut spec);
            proxy.apply(Command::Replace { spec: Box::new(spec) }).await.unwrap();
            word.notify_one();
        };
        statuses.push(tokio::join!(reply, changed).0.status);
        let rescued = u64::from(statuses.last() == Some(&200));
        let green = || totals(&proxy, "green");
        until("it is recorded", || green().rescued == rescued && proxy.open() == 0).await;
    }
    statuses
}

fn cut(spec: &mut Spec) {
    let shop = &mut spec.services["shop"];
    shop.rescue = None;
    shop.pools["green"].weight = crossfade::spec::Weight::new(0).unwrap();
    shop.pools["blue"].weight = crossfade::spec::Weight::new(1).unwrap();
}

/// An abort is when the failures come, and takes the rescue of its rollout away.
#[tokio::test]
async fn what_is_under_way_when_the_canary_is_cut_goes_to_who_has_its_traffic() {
    assert_eq!(after(cut, "/", &[]).await, [200; 3]);
    assert_eq!(after(cut, "/silent", &[]).await, [200; 3]);
    let canary = [("canary", "true")];
    assert_eq!(after(cut, "/", &canary).await, [500; 3], "pinned, so still the canary's");
    assert_eq!(after(cut, "/silent", &canary).await, [502; 3]);
}

#[tokio::test]
async fn nobody_rescues_any_more_who_keeps_its_traffic() {
    let keeps = |spec: &mut Spec| spec.services["shop"].rescue = None;
    assert_eq!(after(keeps, "/", &[]).await, [500; 3]);
    assert_eq!(after(keeps, "/silent", &[]).await, [502; 3]);
    let nobody = |spec: &mut Spec| {
        cut(spec);
        spec.services["shop"].pools["blue"].backends[0].drained = true;
    };
    assert_eq!(after(nobody, "/", &[]).await, [500; 3]);
}
