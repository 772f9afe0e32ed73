//! What is particular to a strategy.

use super::*;
use std::num::NonZeroU32;

#[test]
fn blue_green_shows_itself_and_switches_at_once() {
    let strategy = RolloutStrategy::BlueGreen;
    let mut stage = Stage::with(RolloutPlan { strategy, ..plan() });
    stage.tick();
    assert_eq!((stage.weights(), stage.rollout.phase().as_str()), (vec![100, 0], "paused"));
    stage.verb(Verb::Promote).unwrap();
    stage.tick();
    assert_eq!(stage.weights(), [0, 100]);
    assert_eq!(stage.until_phase(500, "promoted"), 60);

    let mut stage = Stage::with(RolloutPlan { strategy, ..plan() });
    assert_eq!(
        stage.until(500, |stage| stage.weights() == [0, 100]),
        61,
        "by itself, after its time"
    );
    stage.errors = 10;
    stage.until_phase(60, "aborted");
    assert_eq!((stage.weights(), stage.why()), (vec![100, 0], "guard"));
}

fn rolling(rolling: Rolling) -> RolloutPlan {
    RolloutPlan { strategy: RolloutStrategy::Rolling, rolling, ..plan() }
}

#[test]
fn rolling_exchanges_backend_by_backend() {
    let two = NonZeroU32::new(2).unwrap();
    let quick = Rolling { monitor: 5 * SECOND, delay: 3 * SECOND, ..Rolling::default() };
    for (parallelism, order, wanted) in [
        (
            NonZeroU32::MIN,
            RollingOrder::StartFirst,
            vec![(1, 3), (1, 2), (2, 2), (2, 1), (3, 1), (3, 0)],
        ),
        (
            NonZeroU32::MIN,
            RollingOrder::StopFirst,
            vec![(0, 2), (1, 2), (1, 1), (2, 1), (2, 0), (3, 0)],
        ),
        (two, RollingOrder::StartFirst, vec![(2, 3), (2, 1), (3, 1), (3, 0)]),
        (two, RollingOrder::StopFirst, vec![(0, 1), (2, 1), (2, 0), (3, 0)]),
    ] {
        let mut stage = Stage::with(rolling(Rolling { parallelism, order, ..quick.clone() }));
        let mut seen = Vec::new();
        for _ in 0..200 {
            stage.tick();
            let count = |pool| stage.serving(pool).into_iter().filter(|serves| *serves).count();
            let now = (count("green"), count("blue"));
            if stage.rollout.phase() == Phase::Promoted {
                break;
            }
            let (new, old) = (stage.weights()[1] as usize, stage.weights()[0] as usize);
            assert!(
                (new * now.1).abs_diff(old * now.0) <= now.0.max(now.1),
                "{now:?} {:?}",
                stage.weights()
            );
            if seen.last() != Some(&now) {
                seen.push(now);
            }
        }
        assert_eq!(seen, wanted, "{parallelism} {order:?} {:?}", stage.rollout.explain());
        assert_eq!(stage.weights(), [0, 100]);
    }
}

#[test]
fn a_batch_waits_for_its_backends_and_for_enough_of_the_others() {
    let mut stage =
        Stage::with(rolling(Rolling { delay: SECOND, monitor: SECOND, ..Rolling::default() }));
    stage.second.canary_backends = vec![true, false, true];
    stage.ticks(30);
    assert_eq!(stage.serving("green"), [true, false, false]);
    assert_eq!((stage.rollout.phase(), stage.why()), (Phase::Waiting, "no_backend"));
    stage.second.canary_backends = vec![true; 3];
    stage.second.stable_backends = vec![true, true, false];
    stage.ticks(30);
    assert_eq!(
        (stage.serving("green"), stage.serving("blue")),
        (vec![true, true, false], vec![false, true, true])
    );
    assert_eq!(stage.why(), "unavailable");
    stage.second.stable_backends = vec![true; 3];
    stage.until_phase(100, "promoted");
}

#[test]
fn a_bad_batch_pauses_goes_on_or_goes_back() {
    for (failure_action, phase) in [
        (FailureAction::Pause, "paused"),
        (FailureAction::Continue, "promoted"),
        (FailureAction::Rollback, "aborted"),
    ] {
        let quick = Rolling { failure_action, delay: SECOND, ..Rolling::default() };
        let mut stage = Stage::with(rolling(quick));
        stage.until(200, |stage| stage.rollout.step() == 2);
        stage.errors = 50;
        stage.until_phase(300, phase);
        let serving = (stage.serving("blue"), stage.serving("green"));
        match failure_action {
            FailureAction::Pause => assert_eq!(serving.0, [false, false, true]),
            FailureAction::Continue => assert_eq!(stage.weights(), [0, 100]),
            FailureAction::Rollback => {
                assert_eq!(
                    (serving, stage.weights()),
                    ((vec![true; 3], vec![true; 3]), vec![100, 0])
                );
            }
        }
    }
}

#[test]
fn recreate_holds_what_comes_until_the_other_version_is_there() {
    let strategy = RolloutStrategy::Recreate;
    let mut stage = Stage::with(RolloutPlan { strategy, ..plan() });
    stage.second.stable_in_flight = 7;
    stage.canary_is(false);
    stage.ticks(5);
    assert_eq!((stage.weights(), stage.rollout.layout().held), (vec![100, 0], true));
    stage.second.stable_in_flight = 0;
    stage.ticks(5);
    assert_eq!(
        (stage.weights(), stage.rollout.layout().held),
        (vec![100, 0], true),
        "nobody is there yet"
    );
    stage.canary_is(true);
    stage.until(3, |stage| stage.weights() == [0, 100]);
    assert!(stage.rollout.layout().held);
    stage.ticks(1);
    assert!(!stage.rollout.layout().held);
    stage.until_phase(200, "promoted");

    let webhooks = vec![webhook(GateTime::Before)];
    let gates = Gates { webhooks, ..Gates::default() };
    let mut stage = Stage::with(RolloutPlan { strategy, gates, ..plan() });
    stage.ticks(5);
    assert!(!stage.rollout.layout().held && !stage.asked.is_empty(), "asked before anybody waits");
    stage.event(Event::Answered(0, Answer::Pass("status 200".into()))).unwrap();
    stage.asked.clear();
    stage.until(30, |stage| stage.weights() == [0, 100]);
    assert!(stage.asked.is_empty(), "and not again");

    let mut stage = Stage::with(RolloutPlan { strategy, ..plan() });
    stage.canary_is(false);
    assert_eq!(stage.until_phase(100, "aborted"), 32, "nobody waits for ever");
    assert_eq!((stage.weights(), stage.why()), (vec![100, 0], "hold_expired"));
    assert!(!stage.rollout.layout().held);
}

#[test]
fn an_experiment_never_ends_by_itself() {
    let strategy = RolloutStrategy::AbTest;
    let mut service = shop();
    let plan = RolloutPlan { strategy, ..plan() };

    let refused = Rollout::begin(beginning(&service, plan.clone()), 0);
    assert!(refused.unwrap_err().contains("sticky"));
    let key = StickyKey::Cookie("user".into());
    service.sticky = Some(Sticky { key, issue: false, max_age: None, salt: None });
    let mut stage = Stage::of(service, plan.clone());
    stage.ticks(2_000);
    assert_eq!((stage.weights(), stage.rollout.phase()), (vec![50, 50], Phase::Running));
    assert_eq!(stage.rollout.totals().canary.requests, 1_999 * 500);
    assert_eq!(stage.rollout.totals().canary.error_rate(), 0.0);
    stage.verb(Verb::Promote).unwrap();
    stage.tick();
    assert_eq!(stage.weights(), [0, 100]);
}

#[test]
fn each_batch_is_admitted_by_a_webhook_that_starts_it() {
    let admit = Some("http://127.0.0.1:1/start".into());
    let quick = Rolling { delay: SECOND, monitor: SECOND, admit, ..Rolling::default() };
    let mut stage = Stage::with(rolling(quick));
    for batch in 1..=3 {
        stage.until(30, |stage| !stage.asked.is_empty());
        stage.ticks(3);
        let admitted = |stage: &Stage| stage.serving("green").iter().filter(|it| **it).count();
        assert_eq!(
            (admitted(&stage), stage.why()),
            (if batch == 1 { 3 } else { batch - 1 }, "gate")
        );
        stage.event(Event::Answered(0, Answer::Pass("status 200".into()))).unwrap();
        stage.asked.clear();
        stage.tick();
        assert_eq!(admitted(&stage), batch);
    }
    stage.until_phase(30, "promoted");
}
