//! How a rollout goes on, waits, is paused and ends.

use super::*;

#[test]
fn a_canary_that_is_as_good_goes_all_the_way_and_stable_is_drained_at_last() {
    let mut stage = Stage::with(plan());
    let mut seen = vec![stage.weights()];
    for _ in 0..2000 {
        stage.tick();
        if seen.last() != Some(&stage.weights()) {
            seen.push(stage.weights());
        }
        if stage.rollout.phase() == Phase::Promoted {
            break;
        }
    }
    let wanted = [[100, 0], [95, 5], [75, 25], [50, 50], [5, 95], [0, 100]];
    assert_eq!(seen, wanted, "{:?}", stage.rollout.explain());
    assert_eq!(stage.events(), ["started", "step", "step", "step", "step", "promoted"]);
    assert!(!stage.service.pools["blue"].drained, "kept warm");
    assert!(!stage.rollout.is_settled());
    stage.until(101, |stage| stage.service.pools["blue"].drained);
    assert_eq!(stage.weights(), [0, 100]);
    assert!(stage.rollout.is_settled());
    let moves = stage.moves;
    stage.ticks(10);
    assert_eq!(stage.moves, moves, "nothing more");
}

#[test]
fn each_step_takes_its_time_at_least() {
    let steps = Some(vec![
        RolloutStep::Share { share: Share::of_percent(10), bake: Some(20 * SECOND) },
        RolloutStep::Pause(Some(30 * SECOND)),
        RolloutStep::Share { share: Share::of_percent(50), bake: None },
    ]);
    let gates = Gates { regression: None, ..Gates::default() };
    let holdback = Share::NONE;
    let mut stage = Stage::with(RolloutPlan { steps, holdback, gates, ..plan() });
    stage.tick();
    assert_eq!(stage.until_phase(500, "paused"), 20);
    assert_eq!(stage.weights(), [90, 10]);
    assert_eq!(stage.until_phase(500, "running"), 30);
    assert_eq!(stage.until(500, |stage| stage.weights() == [50, 50]), 0);
    assert_eq!(stage.until_phase(500, "promoted"), 60);
    assert_eq!(stage.weights(), [0, 100]);
}

#[test]
fn a_share_below_a_percent_is_exact_and_other_pools_keep_theirs() {
    let mut service = shop();
    service.pools.insert("red".into(), pool(100, &["127.0.0.1:7"]));
    let share = Share::of_millionths(1_000).unwrap();
    let steps = Some(vec![RolloutStep::Share { share, bake: None }]);
    let mut stage = Stage::of(service, RolloutPlan { steps, ..plan() });
    stage.tick();
    assert_eq!(stage.weights(), [999, 1, 1000]);
    stage.verb(Verb::Abort).unwrap();
    stage.tick();
    assert_eq!(stage.weights(), [100, 0, 100]);
}

#[test]
fn the_first_touch_is_a_handful_of_requests() {
    let service = shop();
    let beginning = beginning(&service, RolloutPlan::default());
    let beginning = Beginning { rate: Some(3_000.0), ..beginning };
    let (rollout, _) = Rollout::begin(beginning.clone(), 0).unwrap();
    assert_eq!(rollout.stages()[0].layout.share.millionths(), 6_600);
    assert_eq!(rollout.stages()[1].layout.share, Share::of_percent(5));
    let slow = Beginning { rate: Some(10.0), ..beginning };
    let (rollout, _) = Rollout::begin(slow, 0).unwrap();
    assert_eq!(rollout.stages()[0].layout.share, Share::of_percent(5), "no more than the step");
}

#[test]
fn a_canary_that_fails_is_back_at_nothing() {
    let mut stage = Stage::with(plan());
    stage.until(100, |stage| stage.weights() == [75, 25]);
    stage.errors = 100;
    let seconds = stage.until_phase(20, "aborted");
    assert!(seconds <= 8, "{seconds}");
    assert_eq!((stage.weights(), stage.why()), (vec![100, 0], "errors"));
    assert_eq!(stage.events().last(), Some(&"aborted"));
    assert!(
        stage.rollout.why().unwrap().text.contains("against 0.00 %"),
        "{:?}",
        stage.rollout.why()
    );
    assert!(stage.verb(Verb::Promote).is_err(), "it is over");
    assert!(stage.rollout.is_settled());
}

#[test]
fn a_failure_may_wait_for_a_person() {
    let mut stage = Stage::with(RolloutPlan { on_failure: OnFailure::Pause, ..plan() });
    stage.until(100, |stage| stage.weights() == [75, 25]);
    stage.errors = 100;
    stage.until_phase(20, "paused");
    assert_eq!((stage.weights(), stage.why()), (vec![75, 25], "errors"));
    stage.ticks(50);
    assert_eq!(stage.rollout.phase().as_str(), "paused", "and stays so");
    let explained = stage.rollout.explain();
    assert_eq!(
        (explained.lacks, explained.eta),
        (vec![], None),
        "nothing that comes makes it go on"
    );
    stage.errors = 0;
    stage.verb(Verb::Resume).unwrap();
    stage.ticks(3);
    assert_ne!(stage.rollout.explain().lacks, [], "of what was forgotten");
    assert_eq!(stage.rollout.phase().as_str(), "running", "what was seen before is forgotten");
    assert_eq!(stage.weights(), [75, 25]);
    stage.until_phase(1000, "promoted");
}

#[test]
fn without_traffic_it_holds_and_says_what_is_missing() {
    let mut stage = Stage::with(plan());
    stage.rate = 0;
    stage.until_phase(100, "waiting");
    stage.ticks(2000);
    assert_eq!((stage.rollout.phase(), stage.weights()), (Phase::Waiting, vec![95, 5]));
    assert_eq!(stage.why(), "inconclusive");
    let explained = stage.rollout.explain();
    assert_eq!(explained.lacks[0].text, "300 more requests on `green`");
    assert_eq!(explained.eta, None, "never, without traffic");
    assert_eq!(stage.events(), ["started", "step", "waiting"]);
    stage.rate = 1000;
    stage.until_phase(1000, "promoted");
}

#[test]
fn what_is_inconclusive_may_be_aborted_or_promoted() {
    for (wanted, weights) in
        [(OnInconclusive::Abort, [100, 0]), (OnInconclusive::Promote, [0, 100])]
    {
        let deadline = Duration::from_secs(100);
        let plan = RolloutPlan { on_inconclusive: wanted, step_deadline: deadline, ..plan() };
        let mut stage = Stage::with(plan);
        stage.rate = 0;
        stage.until(1000, |stage| stage.rollout.phase().is_over());
        assert_eq!(stage.weights(), weights);
    }
}

#[test]
fn the_whole_has_a_deadline() {
    let mut stage = Stage::with(RolloutPlan { deadline: Duration::from_secs(200), ..plan() });
    stage.rate = 0;
    assert_eq!(stage.until_phase(1000, "paused"), 200);
    assert_eq!(stage.why(), "deadline");
    stage.rate = 1000;
    stage.ticks(500);
    assert_eq!(stage.rollout.phase().as_str(), "paused");
    stage.verb(Verb::Promote).unwrap();
    stage.until(10, |stage| stage.weights() == [75, 25]);
}

#[test]
fn a_canary_without_a_healthy_backend_is_aborted_after_ten_seconds() {
    let mut stage = Stage::with(plan());
    stage.ticks(5);
    stage.second.canary_healthy = false;
    stage.ticks(9);
    assert_eq!(stage.weights(), [95, 5]);
    stage.tick();
    assert_eq!((stage.weights(), stage.why()), (vec![100, 0], "canary_unhealthy"));
}

#[test]
fn nothing_goes_to_a_canary_that_is_not_healthy_yet() {
    let mut stage = Stage::with(plan());
    stage.canary_is(false);
    stage.ticks(100);
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![100, 0], Phase::Waiting));
    assert_eq!(stage.why(), "no_backend");
    stage.canary_is(true);
    stage.tick();
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![95, 5], Phase::Running));
}

#[test]
fn an_abort_waits_for_stable_and_then_goes_through() {
    let mut stage = Stage::with(plan());
    stage.ticks(5);
    stage.second.stable_healthy = false;
    stage.verb(Verb::Abort).unwrap();
    stage.ticks(3);
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![95, 5], Phase::Failed));
    assert_eq!(stage.events(), ["started", "step", "failed"], "said once");
    assert!(stage.verb(Verb::Promote).is_err());
    stage.second.stable_healthy = true;
    stage.tick();
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![100, 0], Phase::Aborted));
}

#[test]
fn what_cannot_be_put_in_force_is_tried_again_and_nothing_happened_meanwhile() {
    let mut stage = Stage::with(plan());
    stage.until(100, |stage| stage.weights() == [75, 25]);
    stage.stuck = true;
    stage.ticks(70);
    assert_eq!((stage.weights(), stage.rollout.step()), (vec![75, 25], 2));
    assert_eq!((stage.rollout.phase(), stage.why()), (Phase::Running, "not_moved"));
    stage.verb(Verb::Abort).unwrap();
    stage.ticks(3);
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![75, 25], Phase::Failed));
    stage.stuck = false;
    stage.tick();
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![100, 0], Phase::Aborted));
}

#[test]
fn a_person_pauses_resumes_and_promotes() {
    let mut stage = Stage::with(plan());
    stage.ticks(10);
    stage.verb(Verb::Pause(None)).unwrap();
    stage.ticks(500);
    assert_eq!((stage.weights(), stage.rollout.in_stage()), (vec![95, 5], 9));
    assert!(matches!(stage.verb(Verb::Pause(None)), Ok(())), "again is no mistake");
    stage.verb(Verb::Resume).unwrap();
    assert!(stage.verb(Verb::Resume).is_err(), "it is not paused");
    stage.tick();
    assert_eq!(stage.rollout.in_stage(), 10, "where it was");
    stage.verb(Verb::Promote).unwrap();
    stage.tick();
    assert_eq!(stage.weights(), [75, 25]);
    stage.verb(Verb::Pause(Some(20))).unwrap();
    assert_eq!(stage.until_phase(100, "running"), 20, "a pause has an end");
    for weights in [[50, 50], [5, 95], [0, 100]] {
        stage.verb(Verb::Promote).unwrap();
        stage.tick();
        assert_eq!(stage.weights(), weights);
    }
    assert_eq!(stage.rollout.phase(), Phase::Promoted);
    let wanted = [
        "started", "step", "paused", "resumed", "step", "paused", "resumed", "step", "step",
        "promoted",
    ];
    assert_eq!(stage.events(), wanted);
    let promoted = stage.told.last().unwrap();
    assert_eq!(promoted.by.as_ref().map(|by| &*by.author), Some("ada"), "who is on record");
}

#[test]
fn a_pause_does_not_hide_a_failure() {
    let mut stage = Stage::with(plan());
    stage.ticks(10);
    stage.verb(Verb::Pause(None)).unwrap();
    stage.errors = 100;
    stage.until_phase(20, "aborted");
    assert_eq!(stage.weights(), [100, 0]);
}

#[test]
fn an_approval_may_be_limited_to_a_role() {
    let steps = Some(vec![
        RolloutStep::Share { share: Share::of_percent(5), bake: Some(SECOND) },
        RolloutStep::Pause(None),
        RolloutStep::Share { share: Share::ALL, bake: None },
    ]);
    let approval = Some(Role::Approver);
    let mut stage = Stage::with(RolloutPlan { steps, approval, ..plan() });
    stage.until_phase(100, "paused");
    assert!(matches!(stage.verb(Verb::Promote), Err(Refused::Forbidden(_))));
    assert!(matches!(stage.verb(Verb::Resume), Err(Refused::Forbidden(_))));
    stage.ticks(1000);
    assert_eq!(stage.weights(), [95, 5], "it waits for a person, however long");
    stage.event(Event::Verb(Verb::Promote, by(Role::Approver))).unwrap();
    stage.tick();
    assert_eq!(stage.weights(), [5, 95]);
    assert!(matches!(stage.verb(Verb::Abort), Ok(())), "back may everybody");
}

#[test]
fn somebody_elses_change_ends_it_and_a_files_pauses_it() {
    let mut stage = Stage::with(plan());
    stage.ticks(10);
    stage.event(Event::Drifted).unwrap();
    stage.ticks(100);
    assert_eq!((stage.weights(), stage.why()), (vec![95, 5], "drift"));
    stage.verb(Verb::Resume).unwrap();
    stage.ticks(3);
    assert_eq!(stage.rollout.phase(), Phase::Running);
    stage.event(Event::Superseded(ada())).unwrap();
    let moves = stage.moves;
    stage.ticks(200);
    assert_eq!((stage.rollout.phase(), stage.moves), (Phase::Superseded, moves));
    assert!(stage.rollout.is_settled());
}

#[test]
fn a_superseded_end_leaves_stable_alone() {
    let mut stage = Stage::with(plan());
    stage.until_phase(1000, "promoted");
    stage.event(Event::Superseded(ada())).unwrap();
    stage.ticks(200);
    assert_eq!(stage.rollout.phase(), Phase::Promoted, "it had ended before");
    assert!(!stage.service.pools["blue"].drained);
}

#[test]
fn gates_from_elsewhere_are_asked_before_during_and_after() {
    let prometheus = PrometheusGate {
        name: "errors".into(),
        url: "http://127.0.0.1:1".into(),
        query: "up".into(),
        max: 0.5,
        interval: 10 * SECOND,
        timeout: SECOND,
    };
    let gates = Gates {
        prometheus: vec![prometheus],
        webhooks: vec![webhook(GateTime::Before), webhook(GateTime::After)],
        ..Gates::default()
    };
    let steps =
        Some(vec![RolloutStep::Share { share: Share::of_percent(50), bake: Some(20 * SECOND) }]);
    let mut stage = Stage::with(RolloutPlan { gates, steps, ..plan() });
    stage.ticks(7);
    assert_eq!((stage.weights(), &stage.asked[..]), (vec![100, 0], &[1, 1][..]), "again and again");
    stage.event(Event::Answered(1, Answer::Fail("status 500".into()))).unwrap();
    stage.ticks(10);
    assert_eq!(stage.weights(), [100, 0]);
    assert!(stage.rollout.explain().summary.ends_with("gate `tests`: status 500"));
    stage.event(Event::Answered(1, Answer::Pass("status 200".into()))).unwrap();
    stage.asked.clear();
    stage.ticks(2);
    assert_eq!((stage.weights(), &stage.asked[..]), (vec![50, 50], &[0][..]));
    stage.ticks(100);
    assert_eq!(stage.rollout.phase(), Phase::Waiting, "no answer is no pass");
    stage.event(Event::Answered(0, Answer::Inconclusive("unreachable".into()))).unwrap();
    stage.ticks(100);
    assert_eq!(stage.rollout.phase(), Phase::Waiting, "and no fail");
    stage.event(Event::Answered(0, Answer::Pass("0.1".into()))).unwrap();
    stage.ticks(5);
    assert_eq!(stage.weights(), [50, 50], "the last gate is asked now");
    stage.event(Event::Answered(2, Answer::Pass("status 200".into()))).unwrap();
    stage.ticks(1);
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![0, 100], Phase::Promoted));
}

#[test]
fn a_gate_that_says_no_ends_it() {
    let gates = Gates { webhooks: vec![webhook(GateTime::During)], ..Gates::default() };
    let mut stage = Stage::with(RolloutPlan { gates, ..plan() });
    stage.ticks(3);
    assert_eq!(stage.weights(), [95, 5]);
    stage.event(Event::Answered(0, Answer::Fail("status 500".into()))).unwrap();
    stage.ticks(1);
    assert_eq!((stage.weights(), stage.why()), (vec![100, 0], "gate"));
}

#[test]
fn a_clock_that_jumps_changes_nothing() {
    let mut stage = Stage::with(plan());
    stage.ticks(10);
    stage.now += 86_400_000;
    stage.ticks(5);
    assert_eq!((stage.weights(), stage.rollout.in_stage()), (vec![95, 5], 14));
    stage.now = 5_000;
    stage.ticks(5);
    assert_eq!(stage.rollout.in_stage(), 19);
}

#[test]
fn what_hooks_have_not_been_told_is_kept() {
    let hook = crate::spec::Hook {
        on: vec![HookEvent::Step],
        url: "http://127.0.0.1:1/".into(),
        key_file: None,
    };
    let mut stage = Stage::with(RolloutPlan { hooks: vec![hook], ..plan() });
    stage.ticks(3);
    let untold: Vec<u64> = stage.rollout.untold().map(|notice| notice.number).collect();
    assert_eq!(untold, [2], "and not what nobody wants to know");
    stage.event(Event::Told(2)).unwrap();
    assert_eq!(stage.rollout.untold().count(), 0);
}

#[test]
fn a_forecast_says_what_could_be_seen() {
    let traffic = Traffic {
        rate: 100.0,
        error_rate: 0.001,
        dispersion: 1.0,
        stable_backends: 3,
        canary_backends: 3,
    };
    let steps = forecast(&plan(), &traffic);
    assert_eq!(steps.len(), 4);
    let first = steps[0].seconds.unwrap();
    assert!((200.0..300.0).contains(&first), "{first}");
    assert!(steps[0].smallest.unwrap() < 0.05, "{:?}", steps[0]);
    assert!(steps[0].to_abort.unwrap() < 60.0, "{:?}", steps[0]);
    let uneven = forecast(&plan(), &Traffic { dispersion: 3.0, ..traffic });
    assert_eq!(uneven[0].to_abort, steps[0].to_abort.map(|seconds| 3.0 * seconds));
    let none = forecast(&plan(), &Traffic::default());
    assert_eq!((none[0].seconds, none[0].smallest), (None, None), "nothing, without traffic");
}
