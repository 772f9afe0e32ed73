//! While a service is held its requests wait; they go on when it is released, and not for ever.

mod support;

use crossfade::{
    control::Command,
    live::{Fault, Kind, Reason},
    spec::{Engine, ServiceLimits, Spec},
};
use std::time::Duration;
use support::*;
use tokio::task::JoinHandle;

const HOUR: Duration = Duration::from_secs(3600);

/// The ways of a client through the proxy.
const WAYS: [(Engine, bool); 3] =
    [(Engine::Native, false), (Engine::Hyper, false), (Engine::Native, true)];

async fn client(proxy: &Proxy, h2: bool) -> Client {
    if h2 { proxy.h2().await } else { proxy.h1().await }
}

/// A request on a connection of its own.
async fn send(proxy: &Proxy, h2: bool) -> JoinHandle<Reply> {
    let mut client = client(proxy, h2).await;
    tokio::spawn(async move { client.get("/").await })
}

fn hold(time: Duration) -> Command {
    Command::Hold { service: "shop".into(), time }
}

fn release() -> Command {
    Command::Release { service: "shop".into() }
}

fn waiting(proxy: &Proxy) -> usize {
    let holds = proxy.handle.view().holds.clone();
    holds.iter().map(|held| held.hold.waiting()).sum()
}

#[tokio::test]
async fn requests_wait_until_the_release() {
    for (engine, h2) in WAYS {
        let backend = Backend::named("v1").await;
        let spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
        let proxy = Proxy::start(Spec { engine, ..spec }).await;
        assert_eq!(client(&proxy, h2).await.get("/").await.status, 200);
        let receipt = proxy.apply(hold(HOUR)).await.unwrap();
        assert_eq!((receipt.revision, receipt.open()), (Some(1), 0));

        let mut sent = Vec::new();
        for _ in 0..3 {
            sent.push(send(&proxy, h2).await);
        }
        until("they wait", || waiting(&proxy) == 3).await;
        let left = send(&proxy, h2).await;
        until("one more waits", || waiting(&proxy) == 4).await;
        left.abort();
        until("who leaves does not wait", || waiting(&proxy) == 3).await;
        assert_eq!(backend.count(), 1, "{engine:?} {h2}: nothing was sent on");

        let receipt = proxy.apply(release()).await.unwrap();
        assert_eq!(receipt.released.unwrap().hold.held(), 4);
        for sent in sent {
            assert_eq!(sent.await.unwrap().status, 200, "{engine:?} {h2}");
        }
        assert!(proxy.handle.view().holds.is_empty());
        assert_eq!(client(&proxy, h2).await.get("/").await.status, 200);
        assert!(
            proxy.apply(release()).await.unwrap().released.is_none(),
            "it is not held any more"
        );
    }
}

#[tokio::test]
async fn who_waits_in_vain_is_told_so_and_then_the_service_goes_on() {
    for (engine, h2) in WAYS {
        let backend = Backend::named("v1").await;
        let mut spec = spec(&[("blue", pool("v1", 1, &[backend.spec_address()]))]);
        spec.services["shop"].limits = ServiceLimits { held: 1, ..Default::default() };
        let proxy = Proxy::start(Spec { engine, ..spec }).await;
        proxy.apply(hold(HOUR)).await.unwrap();
        let sent = send(&proxy, h2).await;
        until("it waits", || waiting(&proxy) == 1).await;
        let refused = client(&proxy, h2).await.get("/").await;
        assert_eq!((refused.status, waiting(&proxy)), (503, 1), "there is one place");
        // Held again, it is held until the new end.
        proxy.apply(hold(Duration::from_millis(1))).await.unwrap();
        for refused in [refused, sent.await.unwrap()] {
            assert_eq!(refused.status, 503, "{engine:?} {h2}");
            assert_eq!(refused.headers["x-crossfade-error"], "held");
            assert!(refused.headers.contains_key("retry-after"));
        }
        until("the hold is over", || proxy.handle.view().holds.is_empty()).await;
        assert_eq!(backend.count(), 0);
        assert_eq!(client(&proxy, h2).await.get("/").await.status, 200);
        let failed = || {
            let totals = proxy.live.pools()[0].stats.totals();
            totals.failures[Fault::Proxy as usize][Reason::Held as usize]
        };
        until("both are counted", || failed() == 2).await;
    }
}

/// Traffic is moved while nothing is in flight: what waits goes to the new pool.
#[tokio::test]
async fn what_waits_is_decided_by_the_table_of_the_release() {
    let [blue, green] = [Backend::named("v1").await, Backend::named("v2").await];
    let pools = [
        ("blue", pool("v1", 1, &[blue.spec_address()])),
        ("green", pool("v2", 0, &[green.spec_address()])),
    ];
    let proxy = Proxy::start(spec(&pools)).await;
    let held = proxy.live.pools()[0].backends().remove(0);
    held.begin(0);
    let receipt = proxy.apply(hold(HOUR)).await.unwrap();
    assert_eq!(receipt.in_flight.iter().map(|left| left.in_flight.total()).sum::<u64>(), 1);
    assert_eq!(receipt.open(), 1, "who asks to wait waits for it");
    let sent = send(&proxy, false).await;
    until("it waits", || waiting(&proxy) == 1).await;
    held.end(0, Kind::Request, crossfade::live::Outcome::Finished);
    assert_eq!(receipt.open(), 0);
    proxy.cutover("green").await;
    assert_eq!(waiting(&proxy), 1, "another change does not end the hold");
    proxy.apply(release()).await.unwrap();
    assert_eq!(sent.await.unwrap().status, 200);
    assert_eq!((blue.count(), green.count()), (0, 1));
}

#[tokio::test]
async fn there_is_nothing_to_hold_in_a_service_that_is_not_there() {
    let proxy = Proxy::start(spec(&[("blue", pool("v1", 1, &[]))])).await;
    let command = Command::Hold { service: "sohp".into(), time: HOUR };
    let error = proxy.handle.apply(change(command)).await.err().unwrap().to_string();
    assert!(error.contains("no service `sohp`") && error.contains("`shop`"), "{error}");
}
