//! Many rollouts of one kind each, and what became of them.

use crate::{
    dice::Dice,
    lane::{self, Run},
    rules::Rule,
    traffic::{Case, Disturbance, Slowness, Traffic},
};
use crossfade::spec::{RolloutPlan, RolloutStep, Share};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Longer than any of them takes.
const MOST: u64 = 3600;

/// Seconds of a step, as most of the others have it.
const BAKE: Duration = Duration::from_secs(300);

pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) who: &'static str,
    /// The canary fails more often.
    pub(crate) is_worse: bool,
    pub(crate) runs: Vec<Run>,
}

impl Row {
    fn part(&self, is: impl Fn(&Run) -> bool) -> f64 {
        self.runs.iter().filter(|run| is(run)).count() as f64 / self.runs.len() as f64
    }

    /// Of the rollouts, how many were cut, or came to the end.
    pub(crate) fn cut(&self) -> f64 {
        self.part(|run| run.cut.is_some())
    }

    pub(crate) fn through(&self) -> f64 {
        self.part(|run| run.through)
    }

    /// Of those that were cut, at this part of them: half, say.
    pub(crate) fn quantile(&self, part: f64, of: impl Fn(&Run) -> u64) -> Option<u64> {
        let mut all: Vec<u64> = self.runs.iter().filter(|run| run.cut.is_some()).map(of).collect();
        all.sort_unstable();
        all.get(((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1))).copied()
    }

    /// Requests that failed and would not have on stable, on average.
    pub(crate) fn extra(&self) -> f64 {
        self.runs.iter().map(|run| run.extra).sum::<f64>() / self.runs.len() as f64
    }

    /// Why they were cut: what most of them were.
    pub(crate) fn reason(&self) -> &str {
        let why: Vec<&str> = self.runs.iter().filter_map(|run| run.cut.as_deref()).collect();
        let count = |it: &str| why.iter().filter(|other| **other == it).count();
        why.iter().max_by_key(|it| count(it)).copied().unwrap_or("")
    }
}

/// The usual steps, 5, 25, 50 and 100 percent of which 5 are held back.
pub(crate) fn usual_plan() -> RolloutPlan {
    RolloutPlan { bake: BAKE, first_touch: None, ..RolloutPlan::default() }
}

/// Steps that are many and short.
pub(crate) fn quick_plan() -> RolloutPlan {
    let share = |percent| RolloutStep::Share { share: Share::of_percent(percent), bake: None };
    let steps = [1, 2, 5, 10, 20, 35, 50, 75, 100].map(share).to_vec();
    RolloutPlan { steps: Some(steps), bake: Duration::from_secs(60), ..RolloutPlan::default() }
}

const GOOD: Case = Case {
    rate: 100.0,
    stable_errors: 0.001,
    canary_errors: 0.001,
    slowness: Slowness::None,
    disturbance: Disturbance::None,
};

/// Versions that are no worse, and what happens meanwhile.
pub(crate) fn harmless() -> Vec<(&'static str, RolloutPlan, Case)> {
    let case = |rate, disturbance| Case { rate, disturbance, ..GOOD };
    let drift = Disturbance::Drift { to: 0.03, within: 600.0 };
    let swings = Disturbance::Swings { to: 0.009, period: 400.0 };
    let outages = Disturbance::Outages { part: 0.3, seconds: 30.0, an_hour: 2.0 };
    let bursts = Disturbance::Bursts { seconds: 1.0, an_hour: 2.0 };
    let half = Case { stable_errors: 0.005, canary_errors: 0.005, ..GOOD };
    let cold = Slowness::Cold { times: 3.0, decay: 10.0 };
    vec![
        ("quiet, 0.1 % errors", usual_plan(), GOOD),
        ("quiet, 0.5 % errors, 10/s", usual_plan(), Case { rate: 10.0, ..half }),
        ("quiet, 0.5 % errors", usual_plan(), half),
        ("both drift 0.1 -> 3 % in 10 min", usual_plan(), case(100.0, drift)),
        (
            "both swing 0.1 - 0.9 %, traffic too, nine short steps",
            quick_plan(),
            case(200.0, swings),
        ),
        ("shared outages, 30 s at 30 %, 2/h", usual_plan(), case(200.0, outages)),
        ("bursts, 1 s at 100 %, 2/h on each of 20 backends", usual_plan(), case(200.0, bursts)),
        ("the same at 1,000/s", usual_plan(), case(1000.0, bursts)),
        ("canary cold, x3 for 10 s", usual_plan(), Case { slowness: cold, ..GOOD }),
        ("the same at 1,000/s", usual_plan(), Case { slowness: cold, rate: 1000.0, ..GOOD }),
    ]
}

/// Versions that fail more often.
pub(crate) fn failing() -> Vec<(&'static str, RolloutPlan, Case)> {
    let case = |rate, canary_errors| Case { rate, canary_errors, ..GOOD };
    let touch = || RolloutPlan { bake: BAKE, ..RolloutPlan::default() };
    vec![
        ("5 % errors, 100/s", usual_plan(), case(100.0, 0.05)),
        ("5 % errors, 1,000/s", usual_plan(), case(1000.0, 0.05)),
        ("5 % errors, 1,000/s, first touch", touch(), case(1000.0, 0.05)),
        ("100 % errors, 100/s", usual_plan(), case(100.0, 1.0)),
        ("100 % errors, 1,000/s", usual_plan(), case(1000.0, 1.0)),
        ("100 % errors, 1,000/s, first touch", touch(), case(1000.0, 1.0)),
        ("1 % errors, 1,000/s", usual_plan(), case(1000.0, 0.01)),
    ]
}

/// Versions that are slower.
pub(crate) fn slow() -> Vec<(&'static str, RolloutPlan, Case)> {
    let case = |rate, slowness| Case { rate, slowness, ..GOOD };
    vec![
        ("all x2, 20/s", usual_plan(), case(20.0, Slowness::Times(2.0))),
        ("all x2, 100/s", usual_plan(), case(100.0, Slowness::Times(2.0))),
        ("all x2, 1,000/s", usual_plan(), case(1000.0, Slowness::Times(2.0))),
        ("all +20 %, 1,000/s", usual_plan(), case(1000.0, Slowness::Times(1.2))),
        ("2 % above a second, 1,000/s", usual_plan(), case(1000.0, Slowness::Tail(0.02))),
    ]
}

/// So many rollouts by the machine, and by each of the rules on the same traffic.
pub(crate) fn study(
    what: &'static str,
    plan: &RolloutPlan,
    case: Case,
    seed: u64,
    number: u64,
    rules: &[Rule],
) -> Vec<Row> {
    let machine = many(number, |nth| lane::run(plan, &traffic(case, seed, nth), MOST));
    let is_worse = case.canary_errors > case.stable_errors;
    let row = |who, runs| Row { what, who, is_worse, runs };
    let of_rule = |rule: &Rule| {
        let runs = many(number, |nth| rule.run(&traffic(case, seed, nth)));
        row(rule.name, runs)
    };
    std::iter::once(row("crossfade", machine)).chain(rules.iter().map(of_rule)).collect()
}

fn traffic(case: Case, seed: u64, nth: u64) -> Traffic {
    let seed = Dice::of(seed, nth).seed();
    Traffic::new(case, seed, MOST)
}

/// On all cores; what comes of it does not depend on how many there are.
pub(crate) fn many<T: Send>(number: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let some = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|nth| *nth < number);
        std::iter::from_fn(take).map(|nth| (nth, work(nth))).collect::<Vec<_>>()
    };
    let mut all: Vec<(u64, T)> = std::thread::scope(|scope| {
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(some)).collect();
        let done = working.into_iter().map(|it| it.join());
        done.flat_map(|it| it.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    all.sort_unstable_by_key(|(nth, _)| *nth);
    all.into_iter().map(|(_, result)| result).collect()
}
