//! Every request that is given to a backend is accounted for, at places that know nothing of each other.

mod support;

use crossfade::{
    control::Command,
    live::Tally,
    spec::{Engine, Spec},
};
use std::time::Duration;
use support::*;

/// The ways of a client through the proxy.
const WAYS: [(Engine, bool); 3] =
    [(Engine::Native, false), (Engine::Hyper, false), (Engine::Native, true)];

async fn client(proxy: &Proxy, h2: bool) -> Client {
    if h2 { proxy.h2().await } else { proxy.h1().await }
}

/// Of the pools with series, in the order of their names.
async fn ledger(proxy: &Proxy) -> Vec<(Tally, u64)> {
    let tickets = proxy.live.census.take().await.expect("every core answers");
    let mut pools = proxy.live.pools();
    pools.sort_by_key(|pool| pool.name.clone());
    let open = |pool| tickets.iter().find(|(known, _)| std::sync::Arc::ptr_eq(known, pool));
    pools.iter().map(|pool| (pool.tally(), open(pool).map_or(0, |(_, open)| *open))).collect()
}

#[tokio::test]
async fn what_began_has_ended_or_is_open_and_is_what_the_clients_counted() {
    for (engine, h2) in WAYS {
        let (blue, go) = Backend::waiting("v1").await;
        let green = Backend::named("v2").await;
        let pools = [
            ("blue", pool("v1", 0, &[blue.spec_address()])),
            ("green", pool("v2", 1, &[green.spec_address()])),
        ];
        let proxy = Proxy::start(Spec { engine, ..spec(&pools) }).await;
        let mut one = client(&proxy, h2).await;
        for _ in 0..30 {
            assert_eq!(one.get("/").await.text(), "v2");
        }
        proxy.cutover("blue").await;
        let mut waits = client(&proxy, h2).await;
        let answer = tokio::spawn(async move { waits.get("/").await });
        until("it is on its way", || blue.count() == 1).await;

        let receipt = proxy.cutover("green").await;
        let left = &receipt.in_flight[0];
        assert_eq!((&*left.pool, left.in_flight.request, left.ledger().open), ("blue", 1, 1));
        let tally = |started, finished| Tally { started, finished, ..Tally::default() };
        let way = format!("{engine:?} {h2}");
        assert_eq!(ledger(&proxy).await, [(tally(1, 0), 1), (tally(30, 30), 0)], "{way}");
        go.notify_one();
        assert_eq!(answer.await.unwrap().text(), "v1");
        until("it has ended", || receipt.open() == 0).await;
        assert_eq!(ledger(&proxy).await, [(tally(1, 1), 0), (tally(30, 30), 0)], "{way}");
        let ledger = left.ledger();
        assert_eq!((ledger.since, ledger.open), (tally(0, 1), 0), "{way}");
    }
}

/// Backends come and go; what they have counted stays with their pool.
#[tokio::test]
async fn what_was_counted_outlives_its_backend() {
    let [old, new] = [Backend::named("old").await, Backend::named("new").await];
    let pools = [("blue", pool("v1", 1, &[old.spec_address(), new.spec_address()]))];
    let proxy = Proxy::start(spec(&pools)).await;
    let mut client = proxy.h1().await;
    for _ in 0..20 {
        client.get("/").await;
    }
    let service = "shop".into();
    let delete =
        Command::DeleteBackend { service, pool: "blue".into(), address: old.spec_address() };
    drop(proxy.apply(delete).await.unwrap());
    let gone = || proxy.live.pools()[0].backends().len() == 1;
    until("the core has forgotten it", gone).await;
    let tally = Tally { started: 20, finished: 20, ..Tally::default() };
    assert_eq!(ledger(&proxy).await, [(tally, 0)]);
    assert!(old.count() > 0 && old.count() + new.count() == 20);
}

#[tokio::test]
async fn the_census_still_counts_while_the_process_drains() {
    let (blue, go) = Backend::waiting("v1").await;
    let proxy = Proxy::start(spec(&[("blue", pool("v1", 1, &[blue.spec_address()]))])).await;
    let mut client = proxy.h1().await;
    let answer = tokio::spawn(async move { client.get("/").await });
    until("it is on its way", || blue.count() == 1).await;
    let live = proxy.live.clone();
    let drained = tokio::spawn(proxy.drain(Duration::from_secs(60)));
    until("it drains", || live.lifecycle.phase() >= crossfade::live::Phase::Draining).await;
    let open = async || live.census.take().await.map_or(0, |t| t.iter().map(|(_, n)| n).sum());
    assert_eq!(open().await, 1_u64);
    go.notify_one();
    assert_eq!(answer.await.unwrap().status, 200);
    assert!(drained.await.unwrap());
}
