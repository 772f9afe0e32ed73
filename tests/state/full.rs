//! A disk that is full, or fails.

use crate::stage::{SHOP, Shim, Stage, wait, weights};
use std::fs;

#[test]
fn a_change_that_cannot_be_kept_is_refused_and_traffic_goes_on() {
    for (error, status) in [("ENOSPC", 507), ("EIO", 503)] {
        let stage = Stage::new(SHOP);
        let served = stage.start_on(&Shim::default()).expect("it starts");
        served.weights(70);
        let before = served.get("/v1/config");
        fs::write(stage.path("flag"), error).unwrap();
        for _ in 0..3 {
            let path = "/v1/services/shop/weights";
            let answer = served.try_ask("PUT", path, &weights(60), &[]).unwrap();
            assert_eq!(answer.status, status, "{error}: {answer:?}");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains("cannot be kept, so it is not made"), "{detail}");
        }
        // Everything else goes on.
        assert_eq!(served.get("/v1/config"), before);
        let told = served.get("/v1/status");
        assert!(told["state"]["error"].is_string() && told["revision"] == 2, "{told}");
        assert!(stage.run(&["status"]).1.contains("changes cannot be kept, and are refused"));
        // Until there is room again.
        fs::remove_file(stage.path("flag")).unwrap();
        assert_eq!(served.weights(50)["revision"], 3);
        assert!(served.get("/v1/status")["state"]["error"].is_null());
        served.kill();
        let served = stage.start();
        let revisions = served.get("/v1/revisions");
        assert_eq!(revisions.as_array().unwrap().len(), 3, "{error}: {revisions}");
        assert_eq!(served.get("/v1/config")["services"]["shop"]["pools"]["blue"]["weight"], 50);
    }
}

#[test]
fn a_canary_that_was_aborted_gets_nothing_though_that_cannot_be_kept() {
    let stage = Stage::new(SHOP);
    let served = stage.start_on(&Shim::default()).expect("it starts");
    let rollout = "/v1/services/shop/rollout";
    // Nobody comes, so nobody can know.
    let plan = r#"{ "to": "green", "steps": [50, 100], "bake": "1s", "first_touch": "off",
        "step_deadline": "3s", "on_inconclusive": "abort" }"#;
    let shares = || {
        let pools = &served.get("/v1/services/shop")["pools"];
        [&pools[0], &pools[1]].map(|pool| pool["effective_weight"].as_f64().unwrap())
    };
    let green = || served.get("/v1/config")["services"]["shop"]["pools"]["green"]["weight"].clone();
    assert_eq!(served.change("POST", rollout, plan)["rollout"]["state"], "running");
    assert_eq!(shares(), [0.5, 0.5]);
    fs::write(stage.path("flag"), "ENOSPC").unwrap();
    wait("it has failed", || served.get(rollout)["state"] == "failed");
    let why = served.get(rollout)["why"].clone();
    assert!(why["text"].as_str().unwrap().contains("which cannot be kept yet"), "{why}");
    wait("green gets nothing", || shares() == [1.0, 0.0]);
    assert_eq!(green(), 50, "kept is what was");
    fs::remove_file(stage.path("flag")).unwrap();
    wait("it is aborted", || served.get(rollout)["state"] == "aborted");
    assert_eq!((green(), shares()), (0.into(), [1.0, 0.0]));
}

/// What comes after a change that was refused, and before the end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Nothing: the disk still fails.
    Nothing,
    /// The disk is well again, for longer than it takes to see that.
    Wait,
    /// The same, and a change is made.
    Change,
}

/// Each write and each sync of a change may be the one that fails, in each way; then the process or the machine ends.
#[test]
fn what_was_refused_is_not_there_after_a_crash() {
    for (error, lose, then) in [
        ("ENOSPC", "all", Then::Change),
        ("EIO", "some", Then::Change),
        ("EIO", "none", Then::Wait),
        ("SYNC", "all", Then::Change),
        // Of the others nothing can be written over what is there already.
        ("SYNC", "none", Then::Nothing),
    ] {
        // Until all of a change, with what is remembered of its answer, comes before the failure.
        let refused = (0..).take_while(|good| fails_after(error, *good, lose, then)).count();
        assert!(refused > 0, "{error}: nothing was refused");
    }
}

/// Whether the change was refused.
fn fails_after(error: &str, good: u64, lose: &str, then: Then) -> bool {
    let what = format!("{error} after {good}, lose {lose}, then {then:?}");
    let stage = Stage::new(SHOP);
    let served = stage.start_on(&Shim { lose, seed: good, ..Shim::default() }).expect("it starts");
    served.weights(70);
    fs::write(stage.path("flag"), format!("{error} {good}")).unwrap();
    let path = "/v1/services/shop/weights";
    let status = served.try_ask("PUT", path, &weights(60), &[]).unwrap().status;
    let is_refused = status != 200;
    assert!(!is_refused || [503, 507].contains(&status), "{what}: {status}");
    let mut expected = if is_refused { (2, 70) } else { (3, 60) };
    if then != Then::Nothing {
        fs::remove_file(stage.path("flag")).unwrap();
    }
    match then {
        Then::Change => {
            served.weights(50);
            expected = (expected.0 + 1, 50);
        }
        Then::Wait if is_refused => stage.wait_for_tidy_log(),
        _ => {}
    }
    if lose != "none" {
        fs::write(stage.path("flag"), "DIE").unwrap();
        assert!(served.try_ask("PUT", path, &weights(40), &[]).is_none(), "{what}: it has died");
    }
    served.kill();
    let served = stage.start();
    let count = served.get("/v1/revisions").as_array().unwrap().len();
    let pools = &served.get("/v1/config")["services"]["shop"]["pools"];
    assert_eq!((count, pools["blue"]["weight"].as_u64().unwrap()), expected, "{what}");
    served.kill();
    is_refused
}
