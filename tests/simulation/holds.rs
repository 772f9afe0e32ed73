//! Rules that the golden vectors know nothing of: when what is seen means nothing, a rollout neither goes on nor back.

use crate::{
    dice::Dice,
    lane::Lane,
    study::{many, usual_plan},
    traffic::{Case, Disturbance, Slowness, Traffic},
};
use crossfade::{
    rollout::{Phase, sequential::Slice},
    spec::{RolloutPlan, RolloutStep, Share},
};
use std::time::Duration;

const RATE: f64 = 100.0;

const ERRORS: f64 = 0.001;

/// Seconds that any of them takes at most.
const MOST: u64 = 2000;

fn traffic(seed: u64, canary_errors: f64) -> Traffic {
    let case = Case {
        rate: RATE,
        stable_errors: ERRORS,
        canary_errors,
        slowness: Slowness::None,
        disturbance: Disturbance::None,
    };
    Traffic::new(case, seed, MOST)
}

/// One step of 5 percent that takes a minute at least.
fn begin(traffic: &Traffic) -> Lane {
    let steps = vec![RolloutStep::Share { share: Share::of_percent(5), bake: None }];
    let bake = Duration::from_secs(60);
    let plan = RolloutPlan { steps: Some(steps), bake, ..usual_plan() };
    let mut lane = Lane::begin(&plan, Some(RATE), Some(Box::new(traffic.known())));
    lane.show(None);
    assert!(lane.share() > 0.0);
    lane
}

fn lacks(lane: &Lane, what: &str) -> bool {
    lane.rollout.explain().lacks.iter().any(|lack| lack.text.contains(what))
}

/// Something but the split sends half as many again to the canary.
#[test]
fn a_share_that_is_not_the_one_asked_for_holds_until_it_is() {
    many(12, |seed| {
        let traffic = traffic(seed, ERRORS);
        let mut lane = begin(&traffic);
        for second in 0..600 {
            lane.show(Some(traffic.second(second, 0.075)));
            assert!(!lane.rollout.phase().is_over(), "{:?}", lane.rollout.why());
        }
        assert_eq!(lane.rollout.phase(), Phase::Waiting);
        assert!(lacks(&lane, "sample ratio mismatch"), "{:?}", lane.rollout.explain());
        for second in 600..MOST {
            let slice = traffic.second(second, lane.share());
            lane.show(Some(slice));
            if lane.rollout.phase().is_over() {
                break;
            }
        }
        assert_eq!(lane.rollout.phase(), Phase::Promoted);
    });
}

#[test]
fn too_many_users_with_errors_hold_it_until_they_are_fewer() {
    many(12, |seed| {
        let traffic = traffic(seed, ERRORS);
        let mut lane = begin(&traffic);
        for second in 0..MOST {
            let (share, crowded) = (lane.share(), second < 600);
            lane.show_all(Some(traffic.second(second, share)), share, crowded);
            if second == 599 {
                assert_eq!(lane.rollout.phase(), Phase::Waiting);
                assert!(lacks(&lane, "too many users"));
            }
            if lane.rollout.phase().is_over() {
                assert!(!crowded, "{:?}", lane.rollout.why());
                break;
            }
        }
        assert_eq!(lane.rollout.phase(), Phase::Promoted);
    });
}

/// Of a third of the seconds nothing is known.
#[test]
fn seconds_that_are_lost_neither_cut_a_good_version_nor_save_a_bad_one() {
    for (errors, end) in [(ERRORS, Phase::Promoted), (0.05, Phase::Aborted)] {
        many(12, |seed| {
            let traffic = traffic(seed, errors);
            let (mut lane, mut dice) = (begin(&traffic), Dice::of(seed, 1));
            for second in 0..MOST {
                let slice = traffic.second(second, lane.share());
                lane.show(Some(slice).filter(|_| dice.chance(0.67)));
                if lane.rollout.phase().is_over() {
                    break;
                }
            }
            assert_eq!(lane.rollout.phase(), end, "{:?}", lane.rollout.explain());
        });
    }
}

/// Stable is away for eight seconds. A tenth of all that is sent meanwhile hangs, as it would have on stable, and is
/// booked ten seconds later: on the canary, which has five percent again by then.
#[test]
fn what_hung_while_the_share_was_larger_is_not_held_against_the_canary() {
    const AWAY: std::ops::Range<u64> = 60..68;
    const HANGS: u64 = 10;
    many(12, |seed| {
        let traffic = traffic(seed, ERRORS);
        let mut lane = begin(&traffic);
        for second in 0..MOST {
            let share = if AWAY.contains(&second) { 1.0 } else { lane.share() };
            let mut slice = traffic.second(second, share);
            if AWAY.contains(&second.wrapping_sub(HANGS)) {
                book_hung(&mut slice, (RATE / 10.0) as u64);
            }
            lane.show_all(Some(slice), share, false);
            if lane.rollout.phase().is_over() {
                assert!(second > AWAY.end + HANGS, "{:?}", lane.rollout.why());
                break;
            }
        }
        assert_eq!(lane.rollout.phase(), Phase::Promoted, "{:?}", lane.rollout.why());
    });
}

fn book_hung(slice: &mut Slice, number: u64) {
    slice.canary.requests += number;
    slice.canary.errors += number;
    slice.canary.slow += number;
}
