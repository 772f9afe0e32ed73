//! Any plan of a rollout.

use super::generated::{duration, file, name, unique};
use crate::spec::*;
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{num::NonZeroU32, time::Duration};

fn share(least: u32, most: u32) -> impl Strategy<Value = Share> {
    let whole = (least.div_ceil(10_000)..=most / 10_000).prop_map(|percent| percent * 10_000);
    prop_oneof![least..=most, whole].prop_map(|it| Share::of_millionths(it).unwrap())
}

fn count(most: u32) -> impl Strategy<Value = NonZeroU32> {
    (1..=most).prop_map(|it| NonZeroU32::new(it).unwrap())
}

fn url() -> impl Strategy<Value = Name> {
    "https?://([a-z]{1,4}(\\.[a-z]{1,3})?|\\[::1\\]|127\\.0\\.0\\.1)(:[1-9][0-9]{0,3})?(/[a-z$]{0,3}){0,2}(\\?[a-z=$]{0,4})?"
        .prop_map(Name::from)
}

/// Each above the one before, with pauses between them.
fn steps() -> impl Strategy<Value = Vec<RolloutStep>> {
    let shares = vec((share(1, 1_000_000), option::of(duration(0))), 0..5);
    let pauses = vec((any::<prop::sample::Index>(), option::of(duration(1))), 0..3);
    (shares, pauses).prop_map(|(mut shares, pauses)| {
        shares.sort_by_key(|(share, _)| *share);
        shares.dedup_by_key(|(share, _)| *share);
        let mut steps: Vec<RolloutStep> =
            shares.into_iter().map(|(share, bake)| RolloutStep::Share { share, bake }).collect();
        for (at, time) in pauses {
            steps.insert(at.index(steps.len() + 1), RolloutStep::Pause(time));
        }
        steps
    })
}

fn prometheus() -> impl Strategy<Value = PrometheusGate> {
    let query = r#"[a-z(]([a-z$\{\}:"'\\#é ]{0,9}[)\]])?"#.prop_map(Name::from);
    let max = prop_oneof![any::<f64>().prop_filter("finite", |it| it.is_finite()), Just(0.01)];
    (name(), url(), query, max, duration(1), duration(1)).prop_map(
        |(name, url, query, max, interval, timeout)| PrometheusGate {
            name,
            url,
            query,
            max,
            interval,
            timeout,
        },
    )
}

fn webhook() -> impl Strategy<Value = WebhookGate> {
    let when = select(vec![GateTime::Before, GateTime::During, GateTime::After]);
    (name(), url(), when, duration(1), duration(1), option::of(file(".key"))).prop_map(
        |(name, url, when, interval, timeout, key_file)| WebhookGate {
            name,
            url,
            when,
            interval,
            timeout,
            key_file,
        },
    )
}

fn gates() -> impl Strategy<Value = Gates> {
    let latency =
        (share(1, 999_999), duration(1)).prop_map(|(quantile, max)| LatencyGate { quantile, max });
    let regression = (share(1, 500_000), 0u32..=10_000_000)
        .prop_map(|(error_rate, latency_millionths)| Regression { error_rate, latency_millionths });
    let own = (option::of(share(1, 1_000_000)), option::of(latency), option::of(regression));
    (own, vec(prometheus(), 0..3), vec(webhook(), 0..3)).prop_map(
        |((error_rate, latency, regression), mut prometheus, mut webhooks)| {
            let mut names = Vec::new();
            let mut is_new = |name: &Name| {
                let is_new = !names.contains(name);
                names.push(name.clone());
                is_new
            };
            prometheus.retain(|gate| is_new(&gate.name));
            webhooks.retain(|gate| is_new(&gate.name));
            Gates { error_rate, latency, regression, prometheus, webhooks }
        },
    )
}

fn hook() -> impl Strategy<Value = Hook> {
    let on = vec(select(&HookEvent::ALL[..]), 1..4).prop_map(unique);
    (on, url(), option::of(file(".key"))).prop_map(|(on, url, key_file)| Hook { on, url, key_file })
}

fn rolling() -> impl Strategy<Value = Rolling> {
    let order = select(vec![RollingOrder::StartFirst, RollingOrder::StopFirst]);
    let action =
        select(vec![FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback]);
    (count(10_000), duration(0), order, duration(0), action, 0u32..=10_000, option::of(url()))
        .prop_map(|(parallelism, delay, order, monitor, failure_action, max_unavailable, admit)| {
            Rolling { parallelism, delay, order, monitor, failure_action, max_unavailable, admit }
        })
}

fn times() -> impl Strategy<Value = [Duration; 7]> {
    (duration(0), duration(0), duration(1000), duration(1), duration(1), duration(0), duration(1))
        .prop_map(|(bake, warm_up, burst, step_deadline, deadline, keep_stable, hold)| {
            [bake, warm_up, burst, step_deadline, deadline, keep_stable, hold]
        })
}

/// A plan that fits a service with sticky users. In a box: it is large, and so are the threads' stacks not.
pub(super) fn plan() -> BoxedStrategy<RolloutPlan> {
    let touch = (duration(1), count(1_000_000)).prop_map(|(time, rate)| FirstTouch { time, rate });
    let strategy = (select(&RolloutStrategy::ALL[..]), option::of(steps()), option::of(touch));
    let numbers = (share(0, 999_999), 1u64..=1_000_000_000, share(500_000, 999_990), times());
    let ways = (
        select(vec![Sensitivity::Default, Sensitivity::Strict]),
        select(vec![OnFailure::Abort, OnFailure::Pause]),
        select(vec![OnInconclusive::Hold, OnInconclusive::Abort, OnInconclusive::Promote]),
        any::<bool>(),
        option::of(Just(Role::Approver)),
    );
    let plan =
        (strategy, numbers, gates().boxed(), ways, vec(hook(), 0..3).boxed(), rolling().boxed())
            .prop_map(|((strategy, steps, first_touch), numbers, gates, ways, hooks, rolling)| {
                let (holdback, min_requests, confidence, times) = numbers;
                let [bake, warm_up, burst, step_deadline, deadline, keep_stable, hold] = times;
                let (sensitivity, on_failure, on_inconclusive, rescue, approval) = ways;
                RolloutPlan {
                    strategy,
                    first_touch,
                    steps: fitting(strategy, steps),
                    holdback,
                    bake,
                    min_requests,
                    gates,
                    sensitivity,
                    confidence,
                    warm_up,
                    burst,
                    on_failure,
                    on_inconclusive,
                    step_deadline,
                    deadline,
                    keep_stable,
                    hold,
                    rescue,
                    approval,
                    hooks,
                    rolling,
                }
            });
    prop_oneof![1 => Just(RolloutPlan::default()), 4 => plan].boxed()
}

fn fitting(strategy: RolloutStrategy, steps: Option<Vec<RolloutStep>>) -> Option<Vec<RolloutStep>> {
    let steps = steps?;
    let is_share = |step: &RolloutStep| matches!(step, RolloutStep::Share { .. });
    let fits = match strategy {
        RolloutStrategy::Canary | RolloutStrategy::BlueGreen => !steps.is_empty(),
        RolloutStrategy::Rolling | RolloutStrategy::Recreate => false,
        RolloutStrategy::AbTest => steps.len() == 1 && is_share(&steps[0]),
    };
    fits.then_some(steps)
}
