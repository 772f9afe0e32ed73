//! The plan of a rollout: of a service, or of one that is started with other keys.

use super::{
    super::{
        keys::{self, Step},
        problem::quote,
        reader::{At, Field, Reader},
        scalar::format_duration,
        tree::NodeId,
    },
    gates,
};
use crate::spec::{
    Admin, AdminAddress, FirstTouch, Name, Role, Rolling, RolloutPlan, RolloutStep,
    RolloutStrategy, Share,
};
use std::{num::NonZeroU32, time::Duration};

/// What a plan must fit.
pub(in crate::config) struct Around<'a> {
    /// What holds for the keys that are absent.
    pub(in crate::config) base: &'a RolloutPlan,
    /// Its service keeps users on one version.
    pub(in crate::config) is_sticky: bool,
}

/// The plan that results from `keys`. Those that are there replace those of the base whole, but for gates, which are
/// replaced one by one.
pub(in crate::config) fn plan(
    reader: &mut Reader<'_>,
    At { value: keys, node }: At<keys::Rollout>,
    around: &Around<'_>,
) -> RolloutPlan {
    let base = around.base;
    let strategy_node = keys.strategy.node();
    let strategy = keys.strategy.or(base.strategy);
    if strategy == RolloutStrategy::AbTest && !around.is_sticky {
        reader.problem(
            strategy_node.unwrap_or(node),
            "`ab_test` needs users who stay on their version, and the service has no `sticky`",
            "add it, such as `sticky: { cookie: user, issue: true }`, or use another strategy",
        );
    }
    let steps = match keys.steps {
        Field::Good(list) => Some(steps(reader, list, strategy)),
        // They are those of another strategy.
        Field::Absent if strategy != base.strategy => None,
        _ => base.steps.clone(),
    };
    let burst_node = keys.burst.node();
    let burst = keys.burst.or(base.burst);
    if let (Some(node), true) = (burst_node, burst < RolloutPlan::SHORTEST_BURST) {
        let message = format!("{} is too short", quote(&format_duration(burst)));
        reader.problem(node, message, "use `1s` at least: requests are counted by the second");
    }
    let plan = RolloutPlan {
        strategy,
        first_touch: match keys.first_touch {
            Field::Good(at) => at.value.map(first_touch),
            _ => base.first_touch,
        },
        steps,
        holdback: keys.holdback.or(base.holdback),
        bake: keys.bake.or(base.bake),
        min_requests: keys.min_requests.value().map_or(base.min_requests, u64::from),
        gates: match keys.gates {
            Field::Good(at) => gates::gates(reader, at.value, &base.gates),
            _ => base.gates.clone(),
        },
        sensitivity: keys.sensitivity.or(base.sensitivity),
        confidence: keys.confidence.or(base.confidence),
        warm_up: keys.warm_up.or(base.warm_up),
        burst,
        on_failure: keys.on_failure.or(base.on_failure),
        on_inconclusive: keys.on_inconclusive.or(base.on_inconclusive),
        step_deadline: keys.step_deadline.or(base.step_deadline),
        deadline: keys.deadline.or(base.deadline),
        keep_stable: keys.keep_stable.or(base.keep_stable),
        hold: keys.hold.or(base.hold),
        rescue: keys.rescue.or(base.rescue),
        approval: approval(reader, keys.approval, base),
        hooks: match keys.hooks {
            Field::Good(list) => gates::hooks(reader, list),
            _ => base.hooks.clone(),
        },
        rolling: keys.rolling.value().map_or_else(|| base.rolling.clone(), rolling),
    };
    warn_of_deadline(reader, node, &plan);
    plan
}

/// `None`: every operator. Who starts a rollout takes it from nobody.
fn approval(reader: &mut Reader<'_>, field: Field<Role>, base: &RolloutPlan) -> Option<Role> {
    let Field::Good(At { value, node }) = field else { return base.approval };
    let approval = Some(value).filter(|role| *role != Role::Operator);
    if approval < base.approval {
        reader.problem(
            node,
            "the plan of the service leaves approval to approvers",
            "leave the key out, or change the plan of the service",
        );
    }
    approval
}

fn first_touch(keys: keys::FirstTouch) -> FirstTouch {
    let default = FirstTouch::default();
    FirstTouch {
        time: keys.r#for.or(default.time),
        rate: keys.rate.value().and_then(NonZeroU32::new).unwrap_or(default.rate),
    }
}

/// Those that are good.
fn steps(
    reader: &mut Reader<'_>,
    At { value: list, node }: At<Vec<At<Step>>>,
    strategy: RolloutStrategy,
) -> Vec<RolloutStep> {
    if let RolloutStrategy::Rolling | RolloutStrategy::Recreate = strategy {
        let message = format!("`{}` has no steps", strategy.as_str());
        reader.problem(node, message, "remove them, or use another strategy");
    }
    if list.len() > RolloutPlan::MOST_STEPS {
        let most = RolloutPlan::MOST_STEPS;
        reader.problem(node, format!("{} steps", list.len()), format!("use at most {most}"));
    }
    let count = list.len();
    let mut steps = Vec::with_capacity(count);
    let mut before = Share::NONE;
    for at in list {
        let place = at.node;
        let Some(step) = step(reader, at) else { continue };
        if let RolloutStep::Share { share, .. } = step {
            if share <= before {
                let message = format!("{share} is not above the step before it, {before}");
                reader.problem(place, message, "let each step be larger than the one before");
            }
            before = share;
        }
        steps.push(step);
    }
    let shares = steps.iter().filter(|step| matches!(step, RolloutStep::Share { .. })).count();
    if strategy == RolloutStrategy::AbTest && (count, shares) != (1, 1) && steps.len() == count {
        reader.problem(
            node,
            "`ab_test` is one fixed split",
            "give one share alone, such as `steps: [50]`",
        );
    }
    steps
}

/// `None` only if something was reported.
fn step(reader: &mut Reader<'_>, At { value: keys, node }: At<Step>) -> Option<RolloutStep> {
    let has_share = keys.share.node().is_some() || reader.is_misspelt(node, "share");
    let has_pause = keys.pause.node().is_some() || reader.is_misspelt(node, "pause");
    if has_share == has_pause {
        let count = if has_share { "both" } else { "neither" };
        let message = format!("{count} of `share` and `pause` are given");
        reader.problem(node, message, "give exactly one");
        return None;
    }
    if let (Some(place), true) = (keys.bake.node(), has_pause) {
        reader.problem(
            place,
            "`bake` is of a share, and this is a pause",
            "write the time of a pause as `pause: 1h`",
        );
    }
    let bad_bake = keys.bake.is_bad();
    let bake = keys.bake.value();
    match (keys.share, keys.pause) {
        (Field::Good(share), _) if !bad_bake => {
            Some(RolloutStep::Share { share: share.value, bake })
        }
        (_, Field::Good(pause)) => Some(RolloutStep::Pause(pause.value)),
        _ => None,
    }
}

fn rolling(keys: keys::Rolling) -> Rolling {
    let default = Rolling::default();
    Rolling {
        parallelism: (keys.parallelism.value().and_then(NonZeroU32::new))
            .unwrap_or(default.parallelism),
        delay: keys.delay.or(default.delay),
        order: keys.order.or(default.order),
        monitor: keys.monitor.or(default.monitor),
        failure_action: keys.failure_action.or(default.failure_action),
        max_unavailable: keys.max_unavailable.or(default.max_unavailable),
        admit: keys.admit.value(),
    }
}

/// A step that cannot end in time: it is inconclusive each time.
fn warn_of_deadline(reader: &mut Reader<'_>, node: NodeId, plan: &RolloutPlan) {
    let bakes = plan.steps().into_iter().filter_map(|step| match step {
        RolloutStep::Share { bake, .. } => Some(bake.unwrap_or(plan.bake)),
        RolloutStep::Pause(_) => None,
    });
    let longest = bakes.max().unwrap_or(Duration::ZERO);
    if longest > plan.step_deadline {
        let (bake, deadline) = (format_duration(longest), format_duration(plan.step_deadline));
        reader.warn(
            node,
            format!("a step bakes for {bake}, and `step_deadline` is {deadline}"),
            "let `step_deadline` be longer than each `bake`, or the step is inconclusive whatever it shows",
        );
    }
}

/// A plan that leaves approvals to approvers, where there are none or everybody is.
pub(super) fn warn_of_approvals(reader: &mut Reader<'_>, place: NodeId, admin: &Admin) {
    let roles = (admin.tokens.iter().map(|it| it.role))
        .chain(admin.client_roles.iter().map(|it| it.role))
        .chain(admin.unix_roles.iter().map(|it| it.role));
    if roles.into_iter().any(|role| role == Role::Approver) {
        return;
    }
    let (is_open, masters) = match admin.address {
        AdminAddress::Unix(_) => (admin.unix_roles.is_empty(), " but root and crossfade's user"),
        AdminAddress::Tcp(_) => (!admin.is_guarded(), ""),
    };
    let message: Name = match is_open {
        true => "whoever reaches the admin API may approve".into(),
        false => format!("nobody{masters} has the role approver").into(),
    };
    let key = if masters.is_empty() { "admin.tokens" } else { "admin.unix_roles" };
    reader.warn(place, &*message, format!("give it to somebody in {key}"));
}
