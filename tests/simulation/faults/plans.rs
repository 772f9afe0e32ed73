//! Plans of every kind, with times that are short.

use crate::dice::Dice;
use crossfade::spec::{
    FailureAction, FirstTouch, GateTime, Gates, Hook, HookEvent, LatencyGate, OnFailure,
    OnInconclusive, PrometheusGate, Regression, Role, Rolling, RollingOrder, RolloutPlan,
    RolloutStep, RolloutStrategy, Sensitivity, Share, WebhookGate,
};
use std::{num::NonZeroU32, time::Duration};

pub(crate) fn one_of<T: Clone>(dice: &mut Dice, all: &[T]) -> T {
    all[below(dice, all.len() as u64) as usize].clone()
}

pub(crate) fn below(dice: &mut Dice, most: u64) -> u64 {
    (dice.part() * most as f64) as u64
}

fn seconds(dice: &mut Dice, most: u64) -> Duration {
    Duration::from_secs(below(dice, most))
}

fn number(dice: &mut Dice, most: u64) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(below(dice, most) as u32)
}

pub(crate) fn plan(dice: &mut Dice) -> RolloutPlan {
    let strategy = one_of(dice, &RolloutStrategy::ALL);
    let touch =
        FirstTouch { time: seconds(dice, 8) + Duration::from_secs(1), rate: number(dice, 30) };
    let holdback = one_of(dice, &[0, 5, 20]);
    RolloutPlan {
        strategy,
        first_touch: dice.chance(0.5).then_some(touch),
        steps: dice.chance(0.8).then(|| steps(dice, strategy)),
        holdback: Share::of_percent(holdback),
        bake: seconds(dice, 15),
        min_requests: below(dice, 60),
        gates: gates(dice),
        sensitivity: one_of(dice, &[Sensitivity::Default, Sensitivity::Strict]),
        confidence: Share::of_percent(one_of(dice, &[90, 99])),
        warm_up: seconds(dice, 20),
        burst: seconds(dice, 5) + Duration::from_secs(1),
        on_failure: one_of(dice, &[OnFailure::Abort, OnFailure::Abort, OnFailure::Pause]),
        on_inconclusive: one_of(
            dice,
            &[OnInconclusive::Hold, OnInconclusive::Abort, OnInconclusive::Promote],
        ),
        step_deadline: seconds(dice, 60) + Duration::from_secs(20),
        deadline: seconds(dice, 200) + Duration::from_secs(60),
        keep_stable: seconds(dice, 30),
        hold: seconds(dice, 20) + Duration::from_secs(2),
        rescue: true,
        approval: one_of(dice, &[None, None, Some(Role::Approver)]),
        hooks: hooks(dice),
        rolling: Rolling {
            parallelism: number(dice, 3),
            delay: seconds(dice, 5),
            order: one_of(dice, &[RollingOrder::StartFirst, RollingOrder::StopFirst]),
            monitor: seconds(dice, 8),
            failure_action: one_of(
                dice,
                &[FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback],
            ),
            max_unavailable: below(dice, 3) as u32,
            admit: None,
        },
    }
}

fn steps(dice: &mut Dice, strategy: RolloutStrategy) -> Vec<RolloutStep> {
    let pause = |dice: &mut Dice| {
        let time = dice.chance(0.7).then(|| seconds(dice, 20));
        RolloutStep::Pause(time)
    };
    let mut steps = Vec::new();
    let mut share = 0;
    for _ in 0..=below(dice, 4) {
        if dice.chance(0.25) {
            steps.push(pause(dice));
        }
        share += (10_000 + below(dice, 400_000) as u32).min(Share::ALL.millionths() - share);
        let bake = dice.chance(0.3).then(|| seconds(dice, 10));
        let whole = Share::of_millionths(share).filter(|_| dice.chance(0.8));
        steps.push(RolloutStep::Share { share: whole.unwrap_or(Share::ALL), bake });
        if whole.is_none_or(|whole| whole == Share::ALL) {
            break;
        }
    }
    if dice.chance(0.1) {
        steps.push(pause(dice));
    }
    match strategy {
        RolloutStrategy::AbTest => {
            steps.retain(|step| matches!(step, RolloutStep::Share { .. }));
            steps.truncate(1);
        }
        RolloutStrategy::BlueGreen if dice.chance(0.5) => {
            steps.retain(|step| matches!(step, RolloutStep::Pause(_)));
        }
        _ => {}
    }
    steps
}

fn gates(dice: &mut Dice) -> Gates {
    let prometheus = |dice: &mut Dice| PrometheusGate {
        name: "errors".into(),
        url: "http://127.0.0.1:9090".into(),
        query: "1".into(),
        max: 1.0,
        interval: seconds(dice, 10),
        timeout: seconds(dice, 5),
    };
    let webhook = |dice: &mut Dice| WebhookGate {
        name: "somebody".into(),
        url: "http://127.0.0.1:8000".into(),
        when: one_of(dice, &[GateTime::Before, GateTime::During, GateTime::After]),
        interval: seconds(dice, 10),
        timeout: seconds(dice, 5),
        key_file: None,
    };
    let slow = LatencyGate { quantile: Share::of_percent(99), max: Duration::from_secs(1) };
    Gates {
        error_rate: dice.chance(0.7).then_some(Share::of_percent(5)),
        latency: dice.chance(0.7).then_some(slow),
        regression: dice.chance(0.7).then(Regression::default),
        prometheus: (0..below(dice, 2)).map(|_| prometheus(dice)).collect(),
        webhooks: (0..below(dice, 3)).map(|_| webhook(dice)).collect(),
    }
}

fn hooks(dice: &mut Dice) -> Vec<Hook> {
    let on = HookEvent::ALL.into_iter().filter(|_| dice.chance(0.5)).collect();
    vec![Hook { on, url: "http://127.0.0.1:8000/hook".into(), key_file: None }]
}
