use super::*;
use crate::{
    control::probe::probe,
    live::{Ejected, HealthState, LivePool, Phase, Slots},
    spec::{HealthCheck, PoolProtocol},
};

/// A backend that is in no table.
fn at(port: u16) -> Arc<LiveBackend> {
    let pool = LivePool::new(1, name("shop"), name("blue"), name("v1"));
    let (protocol, health) = (PoolProtocol::H1, (HealthState::Unproven, 0));
    LiveBackend::new(1, address(port), pool, protocol, health, Slots::default().take())
}

fn state(backend: &LiveBackend) -> HealthState {
    backend.health.state()
}

#[tokio::test]
async fn a_probe_is_one_plain_request_on_a_connection_of_its_own() {
    let backend = Probed::start(204).await;
    probe(&at(backend.port), &quick_check()).await.unwrap();
    let head = backend.heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /up?deep=1 http/1.1\r\n"), "{head}");
    for line in [
        format!("host: 127.0.0.1:{}", backend.port),
        format!("user-agent: crossfade-probe/{}", env!("CARGO_PKG_VERSION")),
        "connection: close".to_owned(),
    ] {
        assert!(head.lines().any(|have| have == line), "{line} in {head}");
    }
}

#[tokio::test]
async fn what_is_good_and_what_is_bad() {
    let backend = Probed::start(200).await;
    let check = HealthCheck { timeout: Duration::from_millis(100), ..quick_check() };
    for (status, good) in [(200, true), (399, true), (301, true), (404, false), (503, false)] {
        backend.set(status);
        assert_eq!(probe(&at(backend.port), &quick_check()).await.is_ok(), good, "{status}");
    }
    backend.set(0);
    let why = probe(&at(backend.port), &check).await.unwrap_err();
    assert!(why.contains("no answer within"), "{why}");
    backend.server.abort();
    let why = async || probe(&at(backend.port), &check).await.unwrap_err();
    while !why().await.contains("no connection") {}
}

#[tokio::test]
async fn a_newcomer_is_asked_at_once_and_proven_by_its_first_good_probe() {
    let (blue, green) = (Probed::start(200).await, Probed::start(503).await);
    let mut shop = checked(&[blue.port], &[green.port]);
    let check = shop.health_check.as_mut().unwrap();
    // Nobody would wait this long for a second probe.
    check.interval = Duration::from_secs(3600);
    let rig = rig(spec(&[("shop", shop)])).await;
    let backend = rig.backend(blue.port);
    assert_eq!(state(&backend), HealthState::Unproven);
    eventually(|| state(&backend) == HealthState::Healthy).await;
    eventually(|| green.probes() == 1).await;
    assert_eq!(state(&rig.backend(green.port)), HealthState::Unproven);
}

#[tokio::test]
async fn health_follows_the_probes() {
    let blue = Probed::start(503).await;
    let rig = rig(spec(&[("shop", checked(&[blue.port], &[]))])).await;
    let backend = rig.backend(blue.port);
    eventually(|| blue.probes() > 3).await;
    assert_eq!(state(&backend), HealthState::Unproven, "however many bad ones");
    blue.set(200);
    eventually(|| state(&backend) == HealthState::Healthy).await;
    blue.set(500);
    eventually(|| state(&backend) == HealthState::Unhealthy).await;
    blue.set(200);
    eventually(|| state(&backend) == HealthState::Healthy).await;
}

#[tokio::test]
async fn a_check_that_changes_keeps_what_is_known_and_one_that_goes_makes_healthy() {
    let (blue, green) = (Probed::start(200).await, Probed::start(500).await);
    let mut file = spec(&[("shop", checked(&[blue.port], &[green.port]))]);
    let rig = rig(file.clone()).await;
    let (proven, newcomer) = (rig.backend(blue.port), rig.backend(green.port));
    eventually(|| state(&proven) == HealthState::Healthy).await;

    blue.set(0);
    file.services[0].health_check.as_mut().unwrap().path = name("/other");
    rig.apply(load(&file)).await.unwrap();
    assert_eq!(state(&proven), HealthState::Healthy);
    let asked = |path: &str| blue.heads.lock().unwrap().iter().any(|head| head.contains(path));
    eventually(|| asked("GET /other ")).await;

    file.services[0].health_check = None;
    rig.apply(load(&file)).await.unwrap();
    assert_eq!(state(&newcomer), HealthState::Healthy);
    assert!(Arc::ptr_eq(&newcomer, &rig.backend(green.port)));
}

#[tokio::test]
async fn what_left_is_asked_on_only_as_long_as_it_is_well() {
    let (blue, two) = (Probed::start(200).await, Probed::start(200).await);
    let rig = rig(spec(&[("shop", checked(&[blue.port, two.port], &[]))])).await;
    eventually(|| blue.probes() > 0 && two.probes() > 0).await;
    eventually(|| rig.backend(blue.port).health.is_available()).await;
    rig.apply(delete_backend("blue", two.port)).await.unwrap();
    // An undo would find it proven.
    let before = two.probes();
    eventually(|| two.probes() > before + 2).await;
    two.set(503);
    let silence = async {
        loop {
            let (before, others) = (two.probes(), blue.probes());
            eventually(|| blue.probes() > others + 5).await;
            if two.probes() == before {
                return;
            }
        }
    };
    timeout(PATIENCE, silence).await.expect("it is not asked any more");
}

#[tokio::test]
async fn an_ejected_backend_is_readmitted_when_it_can_be_reached() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let shop = service(&[("blue", pool("v1", 1, &[address.port()]))]);
    let rig = rig(spec(&[("shop", shop)])).await;
    let backend = rig.backend(address.port());
    assert!(backend.health.eject(Ejected::Unreachable));
    rig.live.ejected.notify_one();
    let listener = TcpListener::bind(address).await.unwrap();
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    eventually(|| backend.health.is_available()).await;

    assert!(backend.health.eject(Ejected::Unreachable), "a second time");
    rig.live.ejected.notify_one();
    eventually(|| backend.health.is_available()).await;
}

#[tokio::test]
async fn an_ejected_backend_with_a_health_check_is_readmitted_by_a_good_probe() {
    let blue = Probed::start(500).await;
    let rig = rig(spec(&[("shop", checked(&[blue.port], &[]))])).await;
    let backend = rig.backend(blue.port);
    backend.health.eject(Ejected::Unreachable);
    rig.live.ejected.notify_one();
    let seen = blue.probes();
    eventually(|| blue.probes() > seen + 3).await;
    assert!(backend.health.is_ejected(), "a connection is not enough");
    blue.set(200);
    eventually(|| backend.health.is_available()).await;
}

#[tokio::test]
async fn nobody_cuts_over_to_a_pool_without_a_healthy_backend_unless_forced() {
    let (blue, green) = (Probed::start(200).await, Probed::start(503).await);
    let rig = rig(spec(&[("shop", checked(&[blue.port], &[green.port]))])).await;
    for command in [cutover("green"), set_weights(&[("green", 1)])] {
        match rig.apply(command).await.err() {
            Some(ChangeError::Conflict(why)) => {
                assert!(why.contains("has not passed a health check yet"), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.handle.view().revision, 1);
    let forced = Change { force: true, ..change(cutover("green")) };
    let receipt = rig.handle.apply(forced).await.unwrap();
    assert_eq!(receipt.revision, Some(2));
    assert!(receipt.warnings.iter().any(|w| w.contains("without a healthy backend")));
}

#[tokio::test]
async fn a_change_waits_for_a_healthy_backend_and_others_go_on() {
    let (blue, green) = (Probed::start(200).await, Probed::start(503).await);
    let rig = rig(spec(&[("shop", checked(&[blue.port], &[green.port]))])).await;
    let patient = Change { wait_healthy: Some(PATIENCE * 2), ..change(cutover("green")) };
    let handle = rig.handle.clone();
    let cut = tokio::spawn(async move { handle.apply(patient).await });
    eventually(|| green.probes() > 1).await;
    let receipt = rig.apply(put_backend("blue", 1)).await.unwrap();
    assert_eq!(receipt.revision, Some(2), "in between");
    assert!(!cut.is_finished());
    green.set(200);
    let receipt = timeout(PATIENCE, cut).await.unwrap().unwrap().unwrap();
    assert_eq!(receipt.revision, Some(3));
    assert!(receipt.after.services["shop"].pools["blue"].backends.contains_key(&address(1)));
}

#[tokio::test]
async fn a_change_is_not_made_when_who_waited_for_it_has_left() {
    let (blue, green) = (Probed::start(200).await, Probed::start(503).await);
    let rig = rig(spec(&[("shop", checked(&[blue.port], &[green.port]))])).await;
    let patient = Change { wait_healthy: Some(PATIENCE * 2), ..change(cutover("green")) };
    let handle = rig.handle.clone();
    let cut = tokio::spawn(async move { handle.apply(patient).await });
    // It was taken up before this one was answered, because it came first.
    eventually(|| green.probes() > 1).await;
    rig.apply(put_backend("blue", 1)).await.unwrap();
    cut.abort();
    assert!(cut.await.err().unwrap().is_cancelled());
    green.set(200);
    eventually(|| rig.backend(green.port).health.is_available()).await;
    let receipt = rig.apply(put_backend("blue", 2)).await.unwrap();
    assert_eq!(receipt.revision, Some(3));
    assert_eq!(receipt.after.services["shop"].pools["green"].weight, weight(0));
}

#[tokio::test]
async fn who_waits_in_vain_is_told_why() {
    let green = Probed::start(503).await;
    let rig = rig(spec(&[("shop", checked(&[], &[green.port]))])).await;
    let wait = Some(Duration::from_millis(30));
    let refused = rig.handle.apply(Change { wait_healthy: wait, ..change(cutover("green")) }).await;
    assert!(matches!(refused.err(), Some(ChangeError::Conflict(_))));
    let forced = Change { wait_healthy: wait, force: true, ..change(cutover("green")) };
    assert_eq!(rig.handle.apply(forced).await.unwrap().revision, Some(2));
}

#[tokio::test]
async fn ready_when_every_pool_with_weight_has_a_healthy_backend() {
    let (blue, green) = (Probed::start(503).await, Probed::start(503).await);
    let mut first = spec(&[("shop", checked(&[blue.port], &[green.port]))]);
    first.startup_wait = Duration::from_secs(3600);
    let rig = rig(first).await;
    eventually(|| blue.probes() > 2).await;
    assert_eq!(rig.live.lifecycle.phase(), Phase::Starting);
    blue.set(200);
    eventually(|| rig.live.lifecycle.phase() == Phase::Ready).await;
}

#[tokio::test]
async fn ready_when_startup_wait_has_passed() {
    let mut first = spec(&[("shop", checked(&[], &[]))]);
    first.startup_wait = Duration::from_millis(20);
    let rig = rig(first).await;
    eventually(|| rig.live.lifecycle.phase() == Phase::Ready).await;
}

#[tokio::test]
async fn what_is_restored_must_prove_itself_anew() {
    let directory = tempfile::tempdir().unwrap();
    let blue = Probed::start(200).await;
    let mut first = spec(&[("shop", checked(&[blue.port], &[]))]);
    first.state.directory = Some(directory.path().to_owned());
    first.startup_wait = Duration::from_secs(3600);
    let before = rig(first.clone()).await;
    eventually(|| before.live.lifecycle.phase() == Phase::Ready).await;
    blue.set(503);
    // The state is let go of.
    before.handle.hand_over(true).await.unwrap();
    let again = rig(first).await;
    assert_eq!(again.handle.view().revision, 1, "it is restored");
    assert_eq!(state(&again.backend(blue.port)), HealthState::Unproven);
    assert_eq!(again.live.lifecycle.phase(), Phase::Starting);
}
