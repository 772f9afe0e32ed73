//! What a plan means in terms of the statistics.

use crate::{
    rollout::sequential::{
        Bad, BetConfig, Guard, JudgeConfig, LatencyConfig, OnInconclusive, Promotion, Weights,
    },
    spec::{RolloutPlan, RolloutStrategy, Sensitivity},
};

/// Deadlines are the rollout's own business, so the judge has none.
pub(super) fn judge_config(plan: &RolloutPlan, dispersion: f64) -> JudgeConfig {
    let usual = JudgeConfig::default();
    let gates = &plan.gates;
    let (rho, tau) = match plan.sensitivity {
        Sensitivity::Default => (usual.errors.rho, usual.errors.tau),
        Sensitivity::Strict => (0.0, 0.0),
    };
    let refill = usual.errors.credit / plan.burst.as_secs_f64().max(1.0);
    let regression = gates.regression.unwrap_or_default();
    let slower = 1.0 + f64::from(regression.latency_millionths) / 1e6;
    let margin = (8.0 * slower.log2()).round().max(1.0) as usize;
    let errors = gates.error_rate.map(|max| Guard { of: Bad::Errors, limit: max.as_f64() });
    let slow = gates.latency.map(|it| Guard { of: Bad::Slow, limit: it.quantile.rest().as_f64() });
    let guards: Vec<Guard> = errors.into_iter().chain(slow).collect();
    let (compared, guarded) = (gates.regression.is_some(), !guards.is_empty());
    let is_batchwise = plan.strategy == RolloutStrategy::Rolling;
    JudgeConfig {
        alpha: plan.confidence.rest().as_f64(),
        weights: weights(&usual.weights, compared, guarded),
        errors: BetConfig { rho, tau, refill, phi: dispersion.max(1.0), ..usual.errors },
        latency: LatencyConfig {
            tolerated: margin.saturating_sub(1).max(1),
            margin,
            ..usual.latency
        },
        guards,
        guard_requests: plan.min_requests,
        warm_up: plan.warm_up.as_secs_f64(),
        promotion: Promotion {
            margin: regression.error_rate.as_f64(),
            least_requests: if is_batchwise { 0 } else { plan.min_requests },
            deadline: f64::MAX,
            on_inconclusive: OnInconclusive::Hold,
            ..usual.promotion
        },
        ..usual
    }
}

/// What is switched off leaves its weight to the others.
fn weights(usual: &Weights, compared: bool, guarded: bool) -> Weights {
    let on = |weight: f64, is_on: bool| if is_on { weight } else { 0.0 };
    let errors = on(usual.errors, compared);
    let latency = on(usual.latency, compared);
    let guards = on(usual.guards, guarded);
    let sum = errors + latency + guards;
    let part = |weight: f64| if sum > 0.0 { weight / sum } else { 0.0 };
    Weights { errors: part(errors), latency: part(latency), guards: part(guards) }
}
