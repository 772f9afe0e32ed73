//! What the judgement promises, in few rollouts. `cargo run --release --example rollouts` runs many.

use crate::{
    draws,
    rules::RULES,
    study::{Row, failing, harmless, many, slow, study},
};

const SEED: u64 = 7;

fn run(
    cases: Vec<(&'static str, crossfade::spec::RolloutPlan, crate::traffic::Case)>,
    at: &str,
    number: u64,
) -> Row {
    let (what, plan, case) = cases.into_iter().find(|(what, ..)| *what == at).expect("a case");
    study(what, &plan, case, SEED, number, &[]).remove(0)
}

#[test]
fn a_version_that_is_no_worse_is_not_cut() {
    for at in [
        "quiet, 0.5 % errors",
        "both drift 0.1 -> 3 % in 10 min",
        "shared outages, 30 s at 30 %, 2/h",
        "bursts, 1 s at 100 %, 2/h on each of 20 backends",
        "canary cold, x3 for 10 s",
    ] {
        let row = run(harmless(), at, 6);
        assert_eq!(row.cut(), 0.0, "{at}: {}", row.reason());
    }
    let row = run(harmless(), "quiet, 0.1 % errors", 6);
    assert_eq!(row.through(), 1.0);
}

#[test]
fn one_that_fails_more_often_is_cut_soon() {
    let row = run(failing(), "5 % errors, 100/s", 101);
    assert_eq!(row.cut(), 1.0);
    let requests = row.quantile(0.5, |run| run.requests).expect("some were cut");
    assert!(requests <= 120, "{requests} requests");
    let row = run(failing(), "5 % errors, 1,000/s", 41);
    assert_eq!(row.cut(), 1.0);
    let seconds = row.quantile(0.5, |run| run.seconds).expect("some were cut");
    assert!(seconds <= 7, "{seconds} s");
}

#[test]
fn one_that_is_slower_is_cut() {
    let row = run(slow(), "all x2, 100/s", 10);
    assert_eq!((row.cut(), row.reason()), (1.0, "latency"));
}

/// What is compared with does what its documentation says.
#[test]
fn the_usual_rules_need_their_intervals() {
    let (what, plan, case) = failing().remove(0);
    let rows = study(what, &plan, case, SEED, 10, &RULES);
    let seconds = |who: &str| {
        let row = rows.iter().find(|row| row.who == who).expect("a row");
        row.quantile(0.5, |run| run.seconds)
    };
    assert_eq!(["argo", "flagger", "script"].map(seconds), [Some(240), Some(300), Some(600)]);
    let (ours, theirs) = rows.split_first().expect("four rows");
    for row in theirs {
        assert!(row.is_worse);
        assert!(row.extra() > 5.0 * ours.extra(), "{}: {} {}", row.what, row.who, row.extra());
    }
}

#[test]
fn draws_in_stretches_cost_nothing() {
    for (what, kind) in draws::KINDS {
        let cut =
            many(40, |nth| draws::is_cut(kind, SEED, nth)).into_iter().filter(|it| *it).count();
        // At most a fifth in the long run.
        assert!(cut <= 8, "{what}: {cut}");
    }
}
