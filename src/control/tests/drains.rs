use super::*;
use crate::live::{Kind, Outcome};

#[tokio::test]
async fn a_removed_backend_drains_until_its_last_request_has_ended() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let one = rig.backend(1);
    one.begin(1);
    one.turn(1, Kind::Request, Kind::Stream);
    let receipt = rig.apply(delete_backend("blue", 1)).await.unwrap();
    assert_eq!(receipt.drains, [name("d-1")]);
    assert_eq!(receipt.in_flight.len(), 1);
    assert_eq!(receipt.in_flight[0].backend, Some(address(1)));
    assert_eq!(receipt.in_flight[0].in_flight.stream, 1);
    assert!(rig.try_backend(1).is_none());
    assert!(one.is_closing());
    let view = rig.handle.view();
    assert_eq!(view.drains.len(), 1);
    assert!(!view.drains[0].whole_pool);
    one.end(1, Kind::Stream, Outcome::Finished);
    rig.until(|view| view.drains.is_empty()).await;
    assert!(!one.is_cut());
    assert_eq!(rig.apply(delete_backend("blue", 2)).await.unwrap().drains, [name("d-2")]);
}

#[tokio::test]
async fn who_asks_again_waits_for_the_same() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let (blue, green) = (rig.backend(1), rig.backend(11));
    let open = async |command| rig.apply(command).await.unwrap().open();
    blue.begin(0);
    green.begin(0);
    assert_eq!(open(drain("blue", Some(1))).await, 1);
    assert_eq!(open(drain("blue", Some(1))).await, 1);
    assert_eq!(open(undrain("blue", Some(1))).await, 0);
    assert_eq!(open(undrain("blue", Some(1))).await, 0, "nothing leaves by it");
    assert_eq!(open(cutover("blue")).await, 1);
    assert_eq!(open(cutover("blue")).await, 1);
    blue.begin(0);
    assert_eq!(open(cutover("blue")).await, 1, "blue gets requests");
    green.end(0, Kind::Request, Outcome::Finished);
    assert_eq!(open(cutover("blue")).await, 0);
}

#[tokio::test]
async fn a_backend_without_weight_is_left_but_not_drained() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let one = rig.backend(1);
    let backend = crate::spec::Backend { weight: weight(0), drained: false };
    let (service, pool) = (name("shop"), name("blue"));
    let command = Command::PutBackend { service, pool, address: address(1), backend };
    let receipt = rig.apply(command).await.unwrap();
    assert!(Arc::ptr_eq(&receipt.leaving[0], &one) && receipt.leaving.len() == 1);
    assert!(receipt.drains.is_empty() && !one.is_closing());
}

#[tokio::test]
async fn what_is_in_flight_at_the_deadline_is_cut() {
    let mut shop = shop();
    shop.timeouts.drain = Duration::from_millis(30);
    let rig = rig(spec(&[("shop", shop)])).await;
    let green = rig.backend(11);
    let mut changes = rig.live.published.changes();
    green.begin(0);
    rig.apply(delete_pool("green")).await.unwrap();
    assert!(rig.handle.view().drains[0].whole_pool);
    changes.mark_unchanged();
    eventually(|| green.is_cut()).await;
    timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    assert_eq!(rig.handle.view().drains.len(), 1, "what is cut must still end");
    green.end(0, Kind::Request, Outcome::Cut);
    rig.until(|view| view.drains.is_empty()).await;
    assert_eq!(green.pool.tally().cut, 1);
}

#[tokio::test]
async fn a_drained_backend_keeps_its_place_and_comes_back() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let one = rig.backend(1);
    one.begin(0);
    let receipt = rig.apply(drain("blue", Some(1))).await.unwrap();
    assert_eq!(receipt.drains.len(), 1);
    assert_eq!(receipt.open(), 1);
    assert!(one.is_closing() && Arc::ptr_eq(&one, &rig.backend(1)));
    rig.live.published.read(|s| assert!(s.table.services[0].pools[0].backends[0].drained));

    let receipt = rig.apply(undrain("blue", Some(1))).await.unwrap();
    assert!(receipt.drains.is_empty() && receipt.leaving.is_empty());
    assert!(!one.is_closing() && Arc::ptr_eq(&one, &rig.backend(1)));
    assert!(rig.handle.view().drains.is_empty());
}

#[tokio::test]
async fn a_drain_that_leaves_nobody_is_made_with_a_warning() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let warned = |receipt: &Receipt| receipt.warnings.iter().any(|w| w.contains("it answers 503"));
    assert!(!warned(&rig.apply(drain("green", None)).await.unwrap()));
    assert!(!warned(&rig.apply(drain("blue", Some(1))).await.unwrap()));
    assert!(warned(&rig.apply(drain("blue", Some(2))).await.unwrap()));
    assert!(!warned(&rig.apply(undrain("green", None)).await.unwrap()));
}

#[tokio::test]
async fn an_undrain_after_the_cut_starts_afresh() {
    let mut shop = shop();
    shop.timeouts.drain = Duration::ZERO;
    let rig = rig(spec(&[("shop", shop)])).await;
    let one = rig.backend(1);
    one.begin(0);
    rig.apply(drain("blue", None)).await.unwrap();
    eventually(|| one.is_cut()).await;
    rig.apply(undrain("blue", None)).await.unwrap();
    let fresh = rig.backend(1);
    assert!(!Arc::ptr_eq(&one, &fresh) && !fresh.is_cut() && !fresh.is_closing());
    assert_eq!(rig.handle.view().drains.len(), 1, "the old one still has a request");
    one.end(0, Kind::Request, Outcome::Cut);
    rig.until(|view| view.drains.is_empty()).await;
}

#[tokio::test]
async fn what_comes_back_while_it_drains_is_taken_back() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let one = rig.backend(1);
    one.begin(0);
    rig.apply(delete_backend("blue", 1)).await.unwrap();
    let receipt = rig.apply(put_backend("blue", 1)).await.unwrap();
    assert!(receipt.created);
    assert!(Arc::ptr_eq(&one, &rig.backend(1)) && !one.is_closing());
    assert!(rig.handle.view().drains.is_empty());
}

#[tokio::test]
async fn deleting_what_already_drains_begins_no_second_drain() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let one = rig.backend(1);
    one.begin(0);
    rig.apply(drain("blue", Some(1))).await.unwrap();
    let receipt = rig.apply(delete_backend("blue", 1)).await.unwrap();
    assert!(receipt.drains.is_empty());
    assert_eq!(rig.handle.view().drains.len(), 1);
    assert_eq!(receipt.open(), 1, "it is waited for all the same");
    one.end(0, Kind::Request, Outcome::Finished);
    assert_eq!(receipt.open(), 0);
    rig.until(|view| view.drains.is_empty()).await;
}
