use super::*;
use crate::{live::Phase, spec::Listener};

#[tokio::test]
async fn a_cutover_is_one_revision_and_tells_what_was_in_flight() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let blue = [rig.backend(1), rig.backend(2)];
    blue[0].begin(0);
    blue[1].begin(1);
    let receipt = rig.apply(cutover("green")).await.unwrap();
    assert_eq!(receipt.revision, Some(2));
    assert_eq!(receipt.in_flight.len(), 1, "the pool as a whole");
    let LeftInFlight { pool, backend, in_flight, .. } = &receipt.in_flight[0];
    assert_eq!((&**pool, backend, in_flight.request), ("blue", &None, 2));
    assert_eq!(receipt.open(), 2);
    assert!(receipt.drains.is_empty(), "blue keeps its place at weight 0");
    assert!(!blue[0].is_closing());
    assert_eq!(receipt.after.services["shop"].pools["green"].weight, weight(100));
    assert_eq!(rig.handle.view().revision, 2);
    rig.live.published.read(|snapshot| assert_eq!(snapshot.revision, 2));
    blue[0].end(0, crate::live::Kind::Request, crate::live::Outcome::Finished);
    blue[1].end(1, crate::live::Kind::Request, crate::live::Outcome::Finished);
    assert_eq!(receipt.open(), 0);
}

#[tokio::test]
async fn no_change_no_revision() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let receipt = rig.apply(set_weights(&[("blue", 95)])).await.unwrap();
    assert_eq!(receipt.revision, Some(1));
    assert_eq!(receipt.before, receipt.after);
    assert!(receipt.warnings.is_empty());
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let dry = Change { dry_run: true, ..change(cutover("green")) };
    let receipt = rig.handle.apply(dry).await.unwrap();
    assert_eq!(receipt.revision, None);
    assert_ne!(receipt.before, receipt.after);
    assert_eq!(rig.handle.view().revision, 1);
    assert_eq!(rig.handle.view().spec, receipt.before);
}

#[tokio::test]
async fn a_stale_change_is_refused() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let stale = Change { if_match: Some(7), ..change(cutover("green")) };
    let refused = rig.handle.apply(stale).await.err();
    assert_eq!(refused, Some(ChangeError::Stale { current: 1 }));
    let fresh = Change { if_match: Some(1), ..change(cutover("green")) };
    assert_eq!(rig.handle.apply(fresh).await.unwrap().revision, Some(2));
}

#[tokio::test]
async fn what_stays_is_carried_over() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let (one, green) = (rig.backend(1), rig.backend(11));
    let slot = |rig: &Rig| rig.live.published.read(|s| s.services[0].slot.index());
    let before = slot(&rig);
    rig.apply(put_backend("blue", 3)).await.unwrap();
    rig.apply(set_weights(&[("green", 50)])).await.unwrap();
    assert!(Arc::ptr_eq(&one, &rig.backend(1)));
    assert!(Arc::ptr_eq(&green, &rig.backend(11)));
    assert_eq!(slot(&rig), before);
    let slots: std::collections::HashSet<_> =
        [1, 2, 3, 11].map(|port| rig.backend(port).slot.index()).into();
    assert_eq!(slots.len(), 4, "one each");
}

#[tokio::test]
async fn another_version_is_another_live_pool_and_the_old_series_stay_for_a_while() {
    let mut first = spec(&[("shop", shop())]);
    first.metrics_linger = Duration::from_millis(50);
    let rig = rig(first).await;
    let old = rig.backend(11);
    old.begin(0);
    rig.apply(put_pool("green", pool("v3", 5, &[11]))).await.unwrap();
    assert_eq!(&*rig.backend(11).pool.version, "v3");
    let versions = || {
        let mut versions: Vec<_> =
            rig.live.pools().iter().map(|pool| pool.version.to_string()).collect();
        versions.sort();
        versions
    };
    assert_eq!(versions(), ["v1", "v2", "v3"]);
    old.end(0, crate::live::Kind::Request, crate::live::Outcome::Finished);
    eventually(|| versions() == ["v1", "v3"]).await;
}

#[tokio::test]
async fn listeners_keep_their_sockets_and_new_ones_are_bound_first() {
    let mut file = spec(&[("shop", shop())]);
    file.listeners = vec![Listener::new("127.0.0.1:0".parse().unwrap())];
    let rig = rig(file.clone()).await;
    let bound = |rig: &Rig| {
        rig.live
            .published
            .read(|s| s.listeners.iter().map(|listener| listener.bound.clone()).collect::<Vec<_>>())
    };
    let first = bound(&rig);
    assert_ne!(first[0].address.port(), 0);

    file.listeners[0].limits.connections = 7;
    file.listeners.push(Listener::new("127.0.0.1:0".parse().unwrap()));
    rig.apply(load(&file)).await.unwrap();
    let second = bound(&rig);
    assert_eq!(second.len(), 2);
    assert_ne!(second[0].address, second[1].address, "each with sockets of its own");
    assert!(Arc::ptr_eq(&first[0], &second[0]), "changed settings, same sockets");
    rig.live.published.read(|s| assert_eq!(s.listeners[0].spec.limits.connections, 7));

    file.listeners.push(Listener::new(first[0].address));
    let refused = rig.apply(load(&file)).await.err().unwrap();
    assert!(matches!(&refused, ChangeError::Invalid(why) if why[0].contains("cannot listen on")));
    assert_eq!(bound(&rig).len(), 2, "nothing has changed");
    let shown = rig.handle.view().file.error.clone().unwrap();
    assert!(shown.contains("cannot listen on"), "{shown}");
    file.listeners.truncate(1);
    rig.apply(load(&file)).await.unwrap();
    assert_eq!(bound(&rig).len(), 1);
    assert_eq!(rig.handle.view().file.error, None);
}

#[tokio::test]
async fn a_change_of_the_api_says_that_it_is_lost_at_a_restart_and_a_file_does_not() {
    let mut file = spec(&[("shop", shop())]);
    let rig = rig(file.clone()).await;
    let receipt = rig.apply(set_weights(&[("green", 6)])).await.unwrap();
    assert!(receipt.warnings.iter().any(|w| w.contains("restart")), "{:?}", receipt.warnings);
    file.services[0].expose_version = true;
    let change = Change { source: Source::File, ..change(load(&file)) };
    assert!(rig.handle.apply(change).await.unwrap().warnings.is_empty());
    assert_eq!(rig.handle.view().publishes, Publishes { file: 2, api: 1, rollout: 0 });
    assert_eq!(rig.handle.view().spec.services["shop"].pools["green"].weight, weight(6));
}

#[tokio::test]
async fn what_waits_for_a_restart_is_shown_and_the_rest_is_applied() {
    let mut file = spec(&[("shop", shop())]);
    let rig = rig(file.clone()).await;
    file.threads = std::num::NonZeroUsize::new(3);
    file.services[0].expose_version = true;
    rig.apply(load(&file)).await.unwrap();
    let view = rig.handle.view();
    assert_eq!(view.needs_restart, ["threads"]);
    assert_eq!(view.spec.threads, None);
    assert!(view.spec.services["shop"].expose_version);
    file.threads = None;
    assert_eq!(rig.apply(load(&file)).await.unwrap().revision, Some(2), "as it is in force");
    assert!(rig.handle.view().needs_restart.is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_loaded_is_shown() {
    let rig = rig(spec(&[("shop", shop())])).await;
    rig.handle.file_failed("crossfade.yaml:3:1: unknown key".into()).await;
    let view = rig.until(|view| view.file.error.is_some()).await;
    assert_eq!(view.revision, 1);
}

#[tokio::test]
async fn ready_at_once_without_health_checks() {
    let rig = rig(spec(&[("shop", shop())])).await;
    let mut phase = rig.live.lifecycle.subscribe();
    timeout(PATIENCE, phase.wait_for(|&phase| phase == Phase::Ready)).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_invalid_first_spec_is_refused_with_every_reason() {
    let broken = spec(&[("a", service(&[])), ("b", service(&[("x", pool("v", 0, &[]))]))]);
    match start(broken, 1, FileStatus::default(), FORMAT).await.err() {
        Some(StartError::Invalid(reasons)) => assert_eq!(reasons.len(), 2, "{reasons:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_task_ends_with_its_last_handle() {
    let Rig { handle, task, .. } = rig(spec(&[("shop", shop())])).await;
    drop(handle);
    timeout(PATIENCE, task).await.unwrap().unwrap();
}
