//! Before a rollout begins: what could be seen at the present traffic, and how long it would take.

use super::{Layout, Setting, Stage, Task, judge_config, stages, touch};
use crate::{
    rollout::sequential::{requests_to_abort, requests_to_promote},
    spec::{RolloutPlan, Share},
};

/// What is known of the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Requests of stable and canary together, in a second.
    pub rate: f64,
    /// Of those, on stable; 0 to 1.
    pub error_rate: f64,
    /// How much errors come together on single backends of stable; 1 or less: not.
    pub dispersion: f64,
    pub stable_backends: usize,
    pub canary_backends: usize,
}

/// What a step will come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepForecast {
    pub stage: Task,
    pub step: usize,
    pub share: Share,
    /// Seconds until it can be left behind if the canary is as good as stable; `None`: never, at this traffic.
    pub seconds: Option<f64>,
    /// The smallest error rate of the canary that would be seen within that time; `None`: none.
    pub smallest: Option<f64>,
    /// Seconds until a canary of which every twentieth request fails is cut.
    pub to_abort: Option<f64>,
}

/// A version that everybody would call broken.
const BROKEN: f64 = 0.05;

pub fn forecast(plan: &RolloutPlan, traffic: &Traffic) -> Vec<StepForecast> {
    let setting = Setting {
        plan,
        touch: touch(plan, Some(traffic.rate)),
        stable_backends: traffic.stable_backends,
        canary_backends: traffic.canary_backends,
    };
    stages(&setting).iter().map(|stage| of_stage(plan, traffic, stage)).collect()
}

fn of_stage(plan: &RolloutPlan, traffic: &Traffic, stage: &Stage) -> StepForecast {
    let config = judge_config(plan, traffic.dispersion);
    let Stage { task, layout: Layout { share, .. }, step } = *stage;
    let part = share.as_f64();
    let rate = traffic.rate * part;
    let soon = |requests: f64| (rate > 0.0 && requests.is_finite()).then(|| requests / rate);
    let compares = part > 0.0 && part < 1.0 && plan.gates.regression.is_some();
    let evidence = |last: bool| match compares && !last {
        true => soon(requests_to_promote(&config, traffic.error_rate, part)),
        false => Some(0.0),
    };
    let enough = soon(config.promotion.least_requests as f64);
    let seconds = match task {
        Task::Touch(time) | Task::Delay(time) => Some(time.as_secs_f64()),
        Task::Step { bake, last } => {
            let least = evidence(last).zip(enough);
            least.map(|(evidence, enough)| evidence.max(enough).max(bake.as_secs_f64()))
        }
        Task::Watch(time) => Some(time.as_secs_f64()),
        Task::Pause(time) => time.map(|time| time.as_secs_f64()),
        Task::Exchange | Task::Idle => Some(0.0),
        Task::Experiment => None,
    };
    let abort = |rate: f64| {
        soon(requests_to_abort(&config, traffic.error_rate, rate, part)).filter(|_| compares)
    };
    let within = seconds.unwrap_or(plan.step_deadline.as_secs_f64());
    let seen = |rate: f64| abort(rate).is_some_and(|seconds| seconds <= within);
    StepForecast {
        stage: task,
        step,
        share,
        seconds,
        smallest: smallest(traffic.error_rate, seen),
        to_abort: abort(BROKEN),
    }
}

/// By halving: what is seen at a rate is seen at every higher one.
fn smallest(error_rate: f64, seen: impl Fn(f64) -> bool) -> Option<f64> {
    let (mut low, mut high) = (error_rate, 1.0);
    if !seen(high) {
        return None;
    }
    while high - low > 1e-5 {
        let middle = (low + high) / 2.0;
        if seen(middle) { high = middle } else { low = middle }
    }
    Some(high)
}
