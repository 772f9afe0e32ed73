//! From a plan to the stages of a rollout, whatever its strategy: how traffic is laid out in each, and when it is over.

use super::Layout;
use crate::spec::{RollingOrder, RolloutPlan, RolloutStep, RolloutStrategy, Share};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub task: Task,
    /// In force while it lasts.
    pub layout: Layout,
    /// The step of the plan that it belongs to, from 1; 0: before the first.
    pub step: usize,
}

/// What a stage is for, and with that when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Task {
    /// A canary that is broken altogether shows it; so long.
    Touch(Duration),
    /// Both versions are compared, so long at least. The `last` one asks for no further evidence: next to nothing is
    /// left on stable to compare with.
    Step { bake: Duration, last: bool },
    /// A person decides, or this time passes.
    Pause(Option<Duration>),
    /// A batch of new backends gets requests, or one of old ones none.
    Exchange,
    /// The batch before is watched, so long.
    Watch(Duration),
    /// Between two batches.
    Delay(Duration),
    /// Until nothing is in flight on stable.
    Idle,
    /// Until somebody has seen enough.
    Experiment,
}

/// What there is at the start.
pub(super) struct Setting<'a> {
    pub(super) plan: &'a RolloutPlan,
    /// Of the first touch: what limits its rate at the present traffic.
    pub(super) touch: Option<Share>,
    pub(super) stable_backends: usize,
    pub(super) canary_backends: usize,
}

pub(super) fn stages(setting: &Setting<'_>) -> Vec<Stage> {
    let plan = setting.plan;
    match plan.strategy {
        RolloutStrategy::Canary => canary(setting),
        RolloutStrategy::BlueGreen => blue_green(plan),
        RolloutStrategy::Rolling => rolling(setting),
        RolloutStrategy::Recreate => recreate(plan),
        RolloutStrategy::AbTest => {
            let shares = plan.steps().into_iter().filter_map(|step| match step {
                RolloutStep::Share { share, .. } => Some(share),
                RolloutStep::Pause(_) => None,
            });
            let layout = shares.map(Layout::of_share).take(1);
            layout.map(|layout| Stage { task: Task::Experiment, layout, step: 1 }).collect()
        }
    }
}

fn canary(Setting { plan, touch, .. }: &Setting<'_>) -> Vec<Stage> {
    let steps = plan.steps();
    let is_last =
        |at: usize| steps[at + 1..].iter().all(|step| matches!(step, RolloutStep::Pause(_)));
    let mut share = Share::NONE;
    let mut stages: Vec<Stage> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let task = match *step {
            RolloutStep::Pause(time) => Task::Pause(time),
            RolloutStep::Share { share: wanted, bake } => {
                let all = wanted == Share::ALL;
                share = if all && is_last(at) { plan.holdback.rest() } else { wanted };
                let last = all && is_last(at);
                Task::Step { bake: bake.unwrap_or(plan.bake), last }
            }
        };
        let layout = Layout::of_share(share);
        if let (Some(touch), Some(first), Task::Step { .. }) = (touch, plan.first_touch, task)
            && !stages.iter().any(|stage| stage.layout.share > Share::NONE)
        {
            let layout = Layout::of_share((*touch).min(share));
            // Not of a step of its own: it comes before one.
            stages.push(Stage { task: Task::Touch(first.time), layout, step: at });
        }
        stages.push(Stage { task, layout, step: at + 1 });
    }
    stages
}

fn blue_green(plan: &RolloutPlan) -> Vec<Stage> {
    let before = plan.steps().into_iter().enumerate().map(|(at, step)| {
        let (share, task) = match step {
            RolloutStep::Pause(time) => (Share::NONE, Task::Pause(time)),
            RolloutStep::Share { share, bake } => {
                (share, Task::Step { bake: bake.unwrap_or(plan.bake), last: false })
            }
        };
        Stage { task, layout: Layout::of_share(share), step: at + 1 }
    });
    let mut stages: Vec<Stage> = before.collect();
    let task = Task::Step { bake: plan.bake, last: true };
    stages.push(Stage { task, layout: Layout::of_share(Share::ALL), step: stages.len() + 1 });
    stages
}

fn rolling(Setting { plan, stable_backends, canary_backends, .. }: &Setting<'_>) -> Vec<Stage> {
    let rolling = &plan.rolling;
    let (old, new) = (*stable_backends, *canary_backends);
    let batch = rolling.parallelism.get() as usize;
    let (mut admitted, mut retired) = (0, 0);
    let mut stages: Vec<Stage> = Vec::new();
    let mut step = 0;
    while admitted < new || retired < old {
        step += 1;
        let more = |so_far: usize, all: usize| (so_far + batch).min(all);
        // Whoever has fewer backends is through first; nobody is left without.
        let next_admitted = more(admitted, new);
        let last = next_admitted == new;
        let next_retired = if last && admitted == new { old } else { more(retired, old) };
        let between = match rolling.order {
            RollingOrder::StartFirst => (next_admitted, retired),
            RollingOrder::StopFirst => (admitted, next_retired.min(old)),
        };
        let mut exchange = |(admitted, retired), task| {
            let layout = Layout::of_backends(admitted, retired, old);
            if stages.last().is_none_or(|stage| stage.layout != layout || task != Task::Exchange) {
                stages.push(Stage { task, layout, step });
            }
        };
        // The last of the old ones go only when a new one is there.
        if between.0 > 0 || between.1 < old {
            exchange(between, Task::Exchange);
        }
        (admitted, retired) = (next_admitted, next_retired);
        exchange((admitted, retired), Task::Watch(rolling.monitor));
        if (admitted < new || retired < old) && !rolling.delay.is_zero() {
            exchange((admitted, retired), Task::Delay(rolling.delay));
        }
    }
    stages
}

fn recreate(plan: &RolloutPlan) -> Vec<Stage> {
    let held = |share| Layout { held: true, ..Layout::of_share(share) };
    let task = Task::Step { bake: plan.bake, last: true };
    vec![
        Stage { task: Task::Idle, layout: held(Share::NONE), step: 1 },
        Stage { task: Task::Exchange, layout: held(Share::ALL), step: 2 },
        Stage { task, layout: Layout::of_share(Share::ALL), step: 3 },
    ]
}
