//! A backend whose requests fail is left out for some time, whatever way they fail, as long as enough of its pool
//! is left.

mod support;

use crossfade::{
    live::{Ejected, LiveBackend},
    spec::{Ejection, Engine, Spec},
};
use http::Response;
use std::{sync::Arc, time::Duration};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HOUR: Duration = Duration::from_secs(3600);

/// The ways of a client through the proxy.
const WAYS: [(Engine, bool); 3] =
    [(Engine::Native, false), (Engine::Hyper, false), (Engine::Native, true)];

/// By failures in a row alone, for a long time.
const IN_A_ROW: Ejection = Ejection {
    consecutive: 3,
    success_rate_percent: 0,
    window: HOUR,
    min_requests: 10,
    duration: HOUR,
    longest: HOUR,
    at_most_percent: 50,
};

async fn says(reply: &'static [u8]) -> Backend {
    Backend::raw(move |mut stream| async move {
        if matches!(stream.read(&mut [0; 4096]).await, Ok(read) if read > 0) {
            let _ = stream.write_all(reply).await;
        }
    })
    .await
}

async fn status(status: u16) -> Backend {
    Backend::start(move |_| async move {
        let mut response = text("x");
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        response
    })
    .await
}

/// A pool of the two, without retries.
fn both(bad: &Backend, good: &Backend, ejection: Ejection) -> Spec {
    let backends = [bad.spec_address(), good.spec_address()];
    let mut spec = spec(&[("blue", pool("v1", 1, &backends))]);
    let shop = &mut spec.services["shop"];
    shop.ejection = ejection;
    shop.retries.attempts = 1;
    // Long enough for who answers, on a busy machine.
    shop.timeouts.response = Duration::from_secs(1);
    spec
}

fn live(proxy: &Proxy, backend: &Backend) -> Arc<LiveBackend> {
    let backends = proxy.live.pools()[0].backends();
    backends.into_iter().find(|it| it.address == backend.spec_address()).unwrap()
}

/// Sends requests until the backend is left out; none goes there from then on.
async fn is_left_out(bad: &Backend, ejection: Ejection, case: &str) {
    let good = Backend::named("good").await;
    for (engine, h2) in WAYS {
        let proxy = Proxy::start(Spec { engine, ..both(bad, &good, ejection) }).await;
        let mut client = if h2 { proxy.h2().await } else { proxy.h1().await };
        let backend = live(&proxy, bad);
        let ejected = || backend.health.is_ejected_for(Ejected::Failing);
        for _ in 0..500 {
            if ejected() {
                break;
            }
            // Some are cut short.
            if client.try_send(get("/").body(full("")).unwrap()).await.is_err() {
                client = if h2 { proxy.h2().await } else { proxy.h1().await };
            }
        }
        until(&format!("{case} is left out, {engine:?}, h2 {h2}"), ejected).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.text(), "good", "{case}");
        }
        assert_eq!(proxy.live.pools()[0].ejections(), 1);
    }
}

#[tokio::test]
async fn failures_in_a_row_of_any_kind() {
    is_left_out(&status(503).await, IN_A_ROW, "503").await;
    is_left_out(&says(b"").await, IN_A_ROW, "a reset").await;
    is_left_out(&says(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").await, IN_A_ROW, "nonsense")
        .await;
    let silent = Backend::start(|_| std::future::pending::<Response<Body>>()).await;
    is_left_out(&silent, IN_A_ROW, "silence").await;
}

#[tokio::test]
async fn too_few_that_succeed() {
    let by_rate = Ejection {
        consecutive: 1000,
        success_rate_percent: 50,
        window: Duration::from_secs(1),
        ..IN_A_ROW
    };
    is_left_out(&status(504).await, by_rate, "504").await;
    let cut = says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort").await;
    is_left_out(&cut, by_rate, "a cut answer").await;
}

#[tokio::test]
async fn what_an_application_says_is_no_failure_and_neither_is_one_now_and_then() {
    let (crash, good) = (status(500).await, Backend::named("good").await);
    let strict = Ejection { consecutive: 2, ..IN_A_ROW };
    let proxy = Proxy::start(both(&crash, &good, strict)).await;
    let mut client = proxy.h1().await;
    for _ in 0..50 {
        client.get("/").await;
    }
    assert!(crash.count() > 10);
    assert_eq!(proxy.live.pools()[0].ejections(), 0);

    let flaky = Backend::start(|request| async move {
        let mut response = text("flaky");
        if request.uri() == "/bad" {
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        }
        response
    })
    .await;
    let alone = Ejection { at_most_percent: 100, ..strict };
    let mut spec = spec(&[("blue", pool("v1", 1, &[flaky.spec_address()]))]);
    spec.services["shop"].ejection = alone;
    let proxy = Proxy::start(spec).await;
    let mut client = proxy.h1().await;
    for _ in 0..10 {
        assert_eq!(client.get("/bad").await.status, 502);
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(proxy.live.pools()[0].ejections(), 0);
    client.get("/bad").await;
    client.get("/bad").await;
    until("two in a row are enough", || proxy.live.pools()[0].ejections() == 1).await;
    assert_eq!(client.get("/").await.status, 503);
}

#[tokio::test]
async fn the_last_one_stays_and_who_was_left_out_comes_back() {
    let (one, other) = (status(503).await, status(503).await);
    let short = Ejection {
        duration: Duration::from_millis(50),
        longest: Duration::from_millis(100),
        ..IN_A_ROW
    };
    let proxy = Proxy::start(both(&one, &other, short)).await;
    let mut client = proxy.h1().await;
    let pools = proxy.live.pools();
    let (one, other) = (live(&proxy, &one), live(&proxy, &other));
    // Each is left out in its turn, and comes back.
    while pools[0].ejections() < 3 {
        assert_eq!(client.get("/").await.status, 503);
        let both = one.health.is_ejected() && other.health.is_ejected();
        assert!(!both, "one of two at most");
    }
    until("both are back", || one.health.is_available() && other.health.is_available()).await;
}
