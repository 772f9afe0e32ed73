use super::*;
use crate::live::{Kind, Outcome};

fn in_table(rig: &Rig, port: u16) -> bool {
    rig.try_backend(port).is_some()
}

/// A blue pool with one proven backend, as the file has it.
async fn proven() -> (Probed, Spec, Rig) {
    let old = Probed::start(200).await;
    let file = spec(&[("shop", checked(&[old.port], &[]))]);
    let rig = rig(file.clone()).await;
    let backend = rig.backend(old.port);
    eventually(|| backend.health.is_available()).await;
    (old, file, rig)
}

fn replace_backend(file: &mut Spec, port: u16) {
    file.services[0].pools["blue"].backends = pool("v1", 100, &[port]).backends;
}

#[tokio::test]
async fn the_last_proven_backend_stays_until_a_newcomer_is_proven() {
    let (old, mut file, rig) = proven().await;
    let new = Probed::start(503).await;
    let leaving = rig.backend(old.port);
    replace_backend(&mut file, new.port);
    let receipt = rig.apply(load(&file)).await.unwrap();
    assert!(in_table(&rig, old.port) && in_table(&rig, new.port));
    assert!(receipt.leaving.is_empty() && receipt.drains.is_empty());
    assert_eq!(receipt.lingering.len(), 1);
    assert_eq!(receipt.open(), 1, "it may get requests at any time");
    assert!(receipt.warnings.iter().any(|w| w.contains("keeps serving")), "{:?}", receipt.warnings);
    assert_eq!(*rig.handle.view().spec, file, "the desired state knows nothing of it");
    leaving.begin(0);

    new.set(200);
    eventually(|| !in_table(&rig, old.port)).await;
    let view = rig.until(|view| !view.drains.is_empty()).await;
    assert!(Arc::ptr_eq(&view.drains[0].backend, &leaving) && leaving.is_closing());
    assert_eq!(view.revision, 2, "leaving at last is a publish, not a revision");
    leaving.end(0, Kind::Request, Outcome::Finished);
    rig.until(|view| view.drains.is_empty()).await;
    assert_eq!(receipt.open(), 0);
}

#[tokio::test]
async fn it_stays_no_longer_than_a_drain_takes() {
    let (old, mut file, rig) = proven().await;
    let new = Probed::start(503).await;
    replace_backend(&mut file, new.port);
    file.services[0].timeouts.drain = Duration::from_millis(50);
    let receipt = rig.apply(load(&file)).await.unwrap();
    assert_eq!(receipt.lingering.len(), 1);
    eventually(|| !in_table(&rig, old.port)).await;
    assert!(in_table(&rig, new.port));
}

#[tokio::test]
async fn what_lingers_is_taken_back() {
    let (old, before, rig) = proven().await;
    let new = Probed::start(503).await;
    let leaving = rig.backend(old.port);
    let mut file = before.clone();
    replace_backend(&mut file, new.port);
    rig.apply(load(&file)).await.unwrap();
    let receipt = rig.apply(load(&before)).await.unwrap();
    assert!(receipt.lingering.is_empty());
    assert!(Arc::ptr_eq(&leaving, &rig.backend(old.port)) && !leaving.is_closing());
    assert!(!in_table(&rig, new.port));
}

#[tokio::test]
async fn nothing_lingers_when_another_backend_is_proven() {
    let (old, _, rig) = proven().await;
    let second = Probed::start(200).await;
    rig.apply(put_backend("blue", second.port)).await.unwrap();
    let backend = rig.backend(second.port);
    eventually(|| backend.health.is_available()).await;
    let receipt = rig.apply(delete_backend("blue", old.port)).await.unwrap();
    assert!(receipt.lingering.is_empty() && !in_table(&rig, old.port));
    assert_eq!(receipt.drains.len(), 1);
}

#[tokio::test]
async fn nothing_lingers_without_traffic_or_anybody_to_wait_for() {
    let (old, file, rig) = proven().await;
    let receipt = rig.apply(delete_backend("blue", old.port)).await.unwrap();
    assert!(receipt.lingering.is_empty() && !in_table(&rig, old.port), "an empty pool");

    rig.apply(load(&file)).await.unwrap();
    rig.apply(put_backend("blue", old.port)).await.unwrap();
    let (green, new) = (Probed::start(200).await, Probed::start(503).await);
    rig.apply(put_backend("green", green.port)).await.unwrap();
    let backend = rig.backend(green.port);
    eventually(|| backend.health.is_available()).await;
    let settings = pool("v2", 0, &[new.port]);
    let receipt = rig.apply(put_pool("green", settings.clone())).await.unwrap();
    assert!(receipt.lingering.is_empty() && !in_table(&rig, green.port), "weight 0, no pin");
}

#[tokio::test]
async fn a_pin_is_traffic() {
    let (green, new) = (Probed::start(200).await, Probed::start(503).await);
    let mut shop = checked(&[], &[green.port]);
    shop.pins.push(pin("green"));
    let rig = rig(spec(&[("shop", shop)])).await;
    let backend = rig.backend(green.port);
    eventually(|| backend.health.is_available()).await;
    let receipt = rig.apply(put_pool("green", pool("v2", 0, &[new.port]))).await.unwrap();
    assert_eq!(receipt.lingering.len(), 1);
    assert!(in_table(&rig, green.port));
}

#[tokio::test]
async fn a_new_version_label_keeps_what_is_known_of_an_address() {
    let (old, mut file, rig) = proven().await;
    file.services[0].pools["blue"].version = name("v1.1");
    old.set(0);
    let receipt = rig.apply(load(&file)).await.unwrap();
    assert!(receipt.lingering.is_empty());
    let relabelled = rig.backend(old.port);
    assert_eq!(&*relabelled.pool.version, "v1.1");
    assert!(relabelled.health.is_available(), "no probe was answered since");
    assert!(rig.handle.view().drains.iter().all(|drain| drain.whole_pool));
}

#[tokio::test]
async fn an_address_has_one_place_although_its_old_version_could_linger() {
    let (old, _, rig) = proven().await;
    let new = Probed::start(503).await;
    let mut settings = pool("v1.1", 100, &[old.port, new.port]);
    settings.backends[&address(old.port)].drained = true;
    let receipt = rig.apply(put_pool("blue", settings)).await.unwrap();
    assert!(receipt.lingering.is_empty());
    assert_eq!(&*rig.backend(old.port).pool.version, "v1.1");
}

#[tokio::test]
async fn of_another_version_it_serves_until_the_new_one_is_proven() {
    let (old, mut file, rig) = proven().await;
    let new = Probed::start(503).await;
    file.services[0].pools["blue"] = pool("v2", 100, &[new.port]);
    rig.apply(load(&file)).await.unwrap();
    assert_eq!(&*rig.backend(old.port).pool.version, "v1");
    assert_eq!(&*rig.backend(new.port).pool.version, "v2");
    let versions: Vec<_> = rig.live.pools().iter().map(|p| p.version.to_string()).collect();
    assert!(versions.contains(&"v1".to_owned()), "its series are shown: {versions:?}");
    new.set(200);
    eventually(|| !in_table(&rig, old.port)).await;
}

#[test]
fn further_changes_do_not_prolong_it() {
    use crate::{control::parts::Parts, live::HealthState};
    use std::time::Instant;
    let (began, mut parts) = (Instant::now(), Parts::new(1));
    let mut publish = |port: u16, seconds: u64| {
        let spec = Arc::new(spec(&[("shop", checked(&[port], &[]))]));
        let now = began + Duration::from_secs(seconds);
        parts.adopt(parts.plan(&spec, std::iter::empty(), now, 0));
        if seconds == 0 {
            parts.placed()[0].backend.health.set_state(HealthState::Healthy, 0);
        }
        let mut lingering = parts.lingering();
        (lingering.next().and_then(|placed| placed.lingers_until), lingering.count())
    };
    assert_eq!(publish(1, 0), (None, 0));
    let until = (Some(began + Duration::from_secs(61)), 0);
    assert_eq!(publish(2, 1), until);
    assert_eq!(publish(3, 20), until);
    assert_eq!(publish(3, 61), (None, 0));
}

#[tokio::test]
async fn a_pool_that_is_only_renamed_serves_at_once() {
    let (old, mut file, rig) = proven().await;
    let blue = file.services[0].pools.shift_remove("blue").unwrap();
    file.services[0].pools.insert(name("azure"), blue);
    rig.apply(load(&file)).await.unwrap();
    let renamed = rig.backend(old.port);
    assert_eq!(&*renamed.pool.name, "azure");
    assert!(renamed.health.is_available(), "its address has passed this very check");
}
