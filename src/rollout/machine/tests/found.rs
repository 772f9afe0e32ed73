//! What the simulation (tests/simulation) has found, each by itself.

use super::*;

const DAY: Millis = 24 * 3_600_000;

fn one_step() -> Option<Vec<RolloutStep>> {
    Some(vec![RolloutStep::Share { share: Share::of_percent(50), bake: Some(20 * SECOND) }])
}

fn during() -> Gates {
    let gate = WebhookGate {
        name: "tests".into(),
        url: "http://127.0.0.1:1/".into(),
        when: GateTime::During,
        interval: 5 * SECOND,
        timeout: SECOND,
        key_file: None,
    };
    Gates { webhooks: vec![gate], ..Gates::default() }
}

#[test]
fn a_pause_is_as_long_as_it_was_to_be_whatever_the_clock_does() {
    for jump in [-1, 0, 1, 3650].map(|days| days * i128::from(DAY)) {
        let steps = vec![RolloutStep::Pause(Some(30 * SECOND))];
        let steps = Some([steps, one_step().unwrap()].concat());
        let mut stage = Stage::with(RolloutPlan { steps, ..plan() });
        stage.now = 2 * DAY;
        stage.ticks(11);
        stage.now = (i128::from(stage.now) + jump) as Millis;
        stage.ticks(19);
        assert_eq!((stage.rollout.phase().as_str(), stage.rollout.step()), ("paused", 1), "{jump}");
        stage.ticks(2);
        assert_eq!(stage.rollout.step(), 2, "{jump}");
        stage.verb(Verb::Pause(Some(30))).unwrap();
        stage.now = (i128::from(stage.now) - jump) as Millis;
        stage.ticks(29);
        assert_eq!(stage.rollout.phase().as_str(), "paused", "{jump}");
        stage.ticks(2);
        assert_eq!(stage.rollout.phase(), Phase::Running, "{jump}");
    }
}

#[test]
fn gates_are_asked_and_stable_is_kept_warm_whatever_the_clock_does() {
    let mut stage = Stage::with(RolloutPlan { gates: during(), steps: one_step(), ..plan() });
    stage.now = DAY;
    stage.ticks(3);
    stage.event(Event::Answered(0, Answer::Inconclusive("unreachable".into()))).unwrap();
    stage.now = 0;
    stage.asked.clear();
    stage.ticks(7);
    assert_eq!(stage.asked, [0]);
    stage.event(Event::Answered(0, Answer::Pass("status 200".into()))).unwrap();
    stage.until_phase(100, "promoted");
    stage.now += DAY;
    stage.ticks(90);
    assert!(!stage.service.pools["blue"].drained);
    stage.until(20, |stage| stage.service.pools["blue"].drained);
}

#[test]
fn a_first_touch_after_a_pause_is_no_step_of_its_own() {
    let steps = Some([vec![RolloutStep::Pause(Some(SECOND))], one_step().unwrap()].concat());
    let first_touch = RolloutPlan::default().first_touch;
    let plan = RolloutPlan { steps, first_touch, ..plan() };
    let service = shop();
    let beginning = Beginning { rate: Some(1000.0), ..beginning(&service, plan) };
    let (rollout, _) = Rollout::begin(beginning, 0).unwrap();
    let steps: Vec<usize> = rollout.stages().iter().map(|stage| stage.step).collect();
    assert_eq!(steps, [1, 1, 2]);
}

#[test]
fn what_a_gate_said_before_a_person_went_on_does_not_stop_it_again() {
    let on_failure = OnFailure::Pause;
    let plan = RolloutPlan { gates: during(), steps: one_step(), on_failure, ..plan() };
    let mut stage = Stage::with(plan);
    stage.ticks(3);
    stage.event(Event::Answered(0, Answer::Fail("status 500".into()))).unwrap();
    stage.tick();
    assert_eq!((stage.rollout.phase().as_str(), stage.why()), ("paused", "gate"));
    stage.verb(Verb::Resume).unwrap();
    stage.asked.clear();
    stage.tick();
    assert_eq!((stage.rollout.phase(), &stage.asked[..]), (Phase::Running, &[0][..]));
}

#[test]
fn nobody_lifts_a_failure_by_a_pause_of_his_own() {
    let approval = Some(Role::Approver);
    let on_failure = OnFailure::Pause;
    let mut stage = Stage::with(RolloutPlan { approval, on_failure, ..plan() });
    stage.ticks(40);
    stage.errors = 100;
    stage.until_phase(20, "paused");
    assert!(matches!(stage.verb(Verb::Pause(Some(1))), Err(Refused::Conflict(_))));
    stage.event(Event::Drifted).unwrap();
    assert_eq!(stage.why(), "errors");
    assert!(matches!(stage.verb(Verb::Resume), Err(Refused::Forbidden(_))));
    assert!(matches!(stage.verb(Verb::Promote), Err(Refused::Forbidden(_))));
}

#[test]
fn who_waits_for_a_backend_has_a_deadline_too_and_goes_on_when_told() {
    let deadline = Duration::from_secs(30);
    let mut stage = Stage::with(RolloutPlan { deadline, ..plan() });
    stage.canary_is(false);
    assert_eq!(stage.until_phase(100, "paused"), 30);
    assert_eq!(stage.why(), "deadline");
    stage.canary_is(true);
    stage.ticks(10);
    assert_eq!(stage.weights(), [100, 0], "it is paused");
    stage.verb(Verb::Promote).unwrap();
    stage.tick();
    assert_eq!((stage.weights(), stage.rollout.step()), (vec![95, 5], 1));

    let on_inconclusive = OnInconclusive::Promote;
    let mut stage = Stage::with(RolloutPlan { deadline, on_inconclusive, ..plan() });
    stage.canary_is(false);
    stage.until_phase(100, "paused");
    assert_eq!(stage.weights(), [100, 0], "to nobody it is not promoted");
}

#[test]
fn a_canary_that_is_drained_as_a_whole_gets_requests_again() {
    let mut stage = Stage::with(plan());
    stage.service.pools["green"].drained = true;
    stage.second.canary_healthy = false;
    stage.tick();
    assert_eq!(stage.weights(), [95, 5]);
    assert!(!stage.service.pools["green"].drained);
}

#[test]
fn all_traffic_is_not_left_to_a_canary_that_is_not_healthy() {
    let holdback = Share::NONE;
    let steps = Some(vec![RolloutStep::Share { share: Share::ALL, bake: Some(20 * SECOND) }]);
    let mut stage = Stage::with(RolloutPlan { steps, holdback, ..plan() });
    stage.ticks(20);
    stage.canary_is(false);
    stage.ticks(5);
    assert_eq!((stage.rollout.phase(), stage.why()), (Phase::Waiting, "no_backend"));
    stage.canary_is(true);
    stage.tick();
    assert_eq!(stage.rollout.phase(), Phase::Promoted);
}

#[test]
fn stable_does_not_retire_before_a_canary_that_is_not_healthy() {
    let rolling = Rolling { max_unavailable: 3, monitor: 5 * SECOND, ..Rolling::default() };
    let strategy = RolloutStrategy::Rolling;
    let mut stage = Stage::with(RolloutPlan { strategy, rolling, ..plan() });
    stage.tick();
    assert_eq!(stage.rollout.layout().backends.unwrap().admitted, 1);
    stage.second.canary_backends = vec![false, true, true];
    stage.ticks(5);
    assert_eq!(stage.serving("blue"), [true; 3]);
    assert_eq!(stage.why(), "no_backend");
}

#[test]
fn a_rolling_rollout_needs_backends_on_both_sides() {
    for pool in ["blue", "green"] {
        let mut service = shop();
        service.pools[pool].backends.values_mut().for_each(|backend| backend.drained = true);
        let plan = RolloutPlan { strategy: RolloutStrategy::Rolling, ..plan() };
        assert!(Rollout::begin(beginning(&service, plan), 0).is_err(), "{pool}");
    }
}

#[test]
fn an_abort_ends_a_pause_and_tells_nobody_that_it_goes_on() {
    let mut stage = Stage::with(plan());
    stage.ticks(5);
    stage.second.stable_healthy = false;
    stage.verb(Verb::Pause(Some(1))).unwrap();
    stage.verb(Verb::Abort).unwrap();
    stage.ticks(5);
    assert_eq!(stage.events(), ["started", "step", "paused", "failed"]);
}

/// Stable is away for a while and all requests go to the canary, of which many fail late: that is not held against it
/// at a share at which so many errors would be a lot.
#[test]
fn what_ends_after_the_share_has_fallen_does_not_count() {
    let mut stage = Stage::with(plan());
    stage.ticks(40);
    let slice = |canary: u64, errors: u64| {
        let side =
            |requests, errors| Side { requests, errors, slow: 0, latency: [0; FINE_BUCKETS] };
        Slice { canary: side(canary, errors), baseline: side(1000 - canary, 0) }
    };
    let show = |stage: &mut Stage, share, slice| {
        stage.now += 1000;
        let second = Second { slice: Some(slice), share, ..stage.second.clone() };
        stage.event(Event::Second(Box::new(second))).unwrap();
    };
    show(&mut stage, 1.0, slice(1000, 0));
    (0..10).for_each(|_| show(&mut stage, 0.05, slice(80, 40)));
    assert_eq!(stage.rollout.phase(), Phase::Running);
    (0..10).for_each(|_| show(&mut stage, 0.05, slice(80, 40)));
    assert_eq!(stage.rollout.phase(), Phase::Aborted, "that is of now");
}

/// While stable is away there is nothing to compare with: that is no reason to go on.
#[test]
fn nothing_is_promoted_because_stable_is_away() {
    let mut stage = Stage::with(plan());
    stage.ticks(5);
    for _ in 0..100 {
        stage.now += 1000;
        let side = |requests| Side { requests, errors: 0, slow: 0, latency: [0; FINE_BUCKETS] };
        let slice = Some(Slice { canary: side(2000), baseline: side(0) });
        let second = Second { slice, share: 1.0, stable_healthy: false, ..stage.second.clone() };
        stage.event(Event::Second(Box::new(second))).unwrap();
    }
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![95, 5], Phase::Waiting));
}

#[test]
fn the_state_stays_small_however_much_is_said_about_it() {
    let hook = crate::spec::Hook {
        on: HookEvent::ALL.to_vec(),
        url: "http://127.0.0.1:1/".into(),
        key_file: None,
    };
    for length in [0, 1000] {
        let mut stage = Stage::with(RolloutPlan { hooks: vec![hook.clone()], ..plan() });
        for second in 0..300 {
            stage.rate = second % 7;
            stage.tick();
            let who = || By { cause: Some("x".repeat(length)), ..ada() };
            stage.event(Event::Verb(Verb::Pause(None), who())).unwrap();
            stage.event(Event::Verb(Verb::Resume, who())).unwrap();
        }
        let size = serde_json::to_string(&stage.rollout).unwrap().len();
        assert!(size < 200_000, "{size}");
        let notices = stage.rollout.notices();
        assert!(notices.len() >= 40, "{}", notices.len());
        assert_eq!(stage.rollout.untold().count(), notices.len());
    }
}

/// Between asking for a move and its turn something else may have happened.
#[test]
fn a_look_moves_what_may_be_moved_now() {
    let mut stage = Stage::with(plan());
    stage.until(100, |stage| stage.weights() == [75, 25]);
    stage.stuck = true;
    stage.ticks(70);
    assert!(stage.rollout.wanted().is_some());
    stage.stuck = false;
    stage.verb(Verb::Pause(None)).unwrap();
    let look = |stage: &mut Stage| stage.event(Event::Look(Box::new(stage.second.clone())));
    look(&mut stage).unwrap();
    assert_eq!(stage.weights(), [75, 25], "it is paused");
    stage.verb(Verb::Resume).unwrap();
    stage.canary_is(false);
    look(&mut stage).unwrap();
    assert_eq!(stage.weights(), [75, 25], "nobody is there");
    stage.canary_is(true);
    look(&mut stage).unwrap();
    assert_eq!(stage.weights(), [50, 50]);

    stage.until_phase(1000, "promoted");
    stage.stuck = true;
    stage.ticks(150);
    stage.stuck = false;
    look(&mut stage).unwrap();
    assert!(stage.service.pools["blue"].drained);
}
