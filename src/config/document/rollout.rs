use super::{Detail, Keys, text, tls::path};
use crate::{
    config::{
        keys::{
            ApprovalKind, FailureActionKind, GateTimeKind, HookEventKind, OnFailureKind,
            OnInconclusiveKind, RollingOrderKind, SensitivityKind, StrategyKind,
        },
        scalar::{format_duration, format_part},
    },
    spec::{
        FirstTouch, Gates, Hook, LatencyGate, PrometheusGate, Regression, Role, Rolling,
        RolloutPlan, RolloutStep, Share, WebhookGate,
    },
};
use serde_json::{Value, json};

pub(in crate::config) fn plan(plan: &RolloutPlan, detail: Detail) -> Value {
    let default = RolloutPlan::default();
    let mut keys = Keys::new(detail);
    // Also the default: a service with a block differs from one without.
    keys.set("strategy", StrategyKind::word(&plan.strategy));
    keys.other("first_touch", &plan.first_touch, &default.first_touch, |it| {
        off_or(
            it,
            |FirstTouch { time, rate }| json!({ "for": format_duration(*time), "rate": rate }),
        )
    });
    if let Some(steps) = &plan.steps {
        keys.set("steps", steps.iter().map(step).collect::<Vec<_>>());
    }
    keys.other("holdback", &plan.holdback, &default.holdback, percent);
    keys.duration("bake", plan.bake, default.bake);
    keys.other("min_requests", &plan.min_requests, &default.min_requests, |it| (*it).into());
    keys.section("gates", gates(&plan.gates, detail));
    keys.other("sensitivity", &plan.sensitivity, &default.sensitivity, |it| {
        SensitivityKind::word(it).into()
    });
    keys.other("confidence", &plan.confidence, &default.confidence, signed);
    keys.duration("warm_up", plan.warm_up, default.warm_up);
    keys.duration("burst", plan.burst, default.burst);
    keys.other("on_failure", &plan.on_failure, &default.on_failure, |it| {
        OnFailureKind::word(it).into()
    });
    keys.other("on_inconclusive", &plan.on_inconclusive, &default.on_inconclusive, |it| {
        OnInconclusiveKind::word(it).into()
    });
    keys.duration("step_deadline", plan.step_deadline, default.step_deadline);
    keys.duration("deadline", plan.deadline, default.deadline);
    keys.duration("keep_stable", plan.keep_stable, default.keep_stable);
    keys.duration("hold", plan.hold, default.hold);
    keys.other("rescue", &plan.rescue, &default.rescue, |it| (*it).into());
    keys.other("approval", &plan.approval, &default.approval, |it| {
        ApprovalKind::word(&it.unwrap_or(Role::Operator)).into()
    });
    keys.other("hooks", &plan.hooks, &default.hooks, |hooks| {
        hooks.iter().map(hook).collect::<Vec<_>>().into()
    });
    keys.section("rolling", rolling(&plan.rolling, detail));
    keys.into_value()
}

fn off_or<T>(value: &Option<T>, show: fn(&T) -> Value) -> Value {
    value.as_ref().map_or_else(|| "off".into(), show)
}

/// A number.
fn percent(share: &Share) -> Value {
    match share.millionths() {
        whole if whole.is_multiple_of(10_000) => (whole / 10_000).into(),
        part => (f64::from(part) / 10_000.0).into(),
    }
}

/// A text with its sign.
fn signed(share: &Share) -> Value {
    format!("{share}%").into()
}

fn step(step: &RolloutStep) -> Value {
    match step {
        RolloutStep::Share { share, bake: None } => percent(share),
        RolloutStep::Share { share, bake: Some(bake) } => {
            json!({ "share": percent(share), "bake": format_duration(*bake) })
        }
        RolloutStep::Pause(None) => json!({ "pause": {} }),
        RolloutStep::Pause(Some(time)) => json!({ "pause": format_duration(*time) }),
    }
}

fn gates(gates: &Gates, detail: Detail) -> Keys {
    let default = Gates::default();
    let mut keys = Keys::new(detail);
    keys.other("error_rate", &gates.error_rate, &default.error_rate, |it| {
        off_or(it, |max| json!({ "max": signed(max) }))
    });
    keys.other("latency", &gates.latency, &default.latency, |it| {
        off_or(it, |LatencyGate { quantile, max }| {
            json!({ "quantile": quantile.as_f64(), "max": format_duration(*max) })
        })
    });
    keys.other("regression", &gates.regression, &default.regression, |it| {
        off_or(it, |Regression { error_rate, latency_millionths }| {
            let latency = format!("{}%", format_part(*latency_millionths));
            json!({ "error_rate": signed(error_rate), "latency": latency })
        })
    });
    keys.other("prometheus", &gates.prometheus, &default.prometheus, |gates| {
        gates.iter().map(prometheus).collect::<Vec<_>>().into()
    });
    keys.other("webhooks", &gates.webhooks, &default.webhooks, |gates| {
        gates.iter().map(webhook).collect::<Vec<_>>().into()
    });
    keys
}

fn prometheus(gate: &PrometheusGate) -> Value {
    let mut keys = Keys::new(Detail::Brief);
    keys.set("name", &*gate.name);
    keys.set("url", text(&gate.url));
    keys.set("query", text(&gate.query));
    keys.set("max", gate.max);
    keys.duration("interval", gate.interval, PrometheusGate::INTERVAL);
    keys.duration("timeout", gate.timeout, PrometheusGate::TIMEOUT);
    keys.into_value()
}

fn webhook(gate: &WebhookGate) -> Value {
    let mut keys = Keys::new(Detail::Brief);
    keys.set("name", &*gate.name);
    keys.set("url", text(&gate.url));
    keys.set("when", GateTimeKind::word(&gate.when));
    keys.duration("interval", gate.interval, WebhookGate::INTERVAL);
    keys.duration("timeout", gate.timeout, WebhookGate::TIMEOUT);
    if let Some(file) = &gate.key_file {
        keys.set("key_file", path(file));
    }
    keys.into_value()
}

fn hook(hook: &Hook) -> Value {
    let mut keys = Keys::new(Detail::Brief);
    keys.set("on", hook.on.iter().map(HookEventKind::word).collect::<Vec<_>>());
    keys.set("url", text(&hook.url));
    if let Some(file) = &hook.key_file {
        keys.set("key_file", path(file));
    }
    keys.into_value()
}

fn rolling(value: &Rolling, detail: Detail) -> Keys {
    let default = Rolling::default();
    let mut keys = Keys::new(detail);
    keys.number("parallelism", value.parallelism.get(), default.parallelism.get());
    keys.duration("delay", value.delay, default.delay);
    keys.other("order", &value.order, &default.order, |it| RollingOrderKind::word(it).into());
    keys.duration("monitor", value.monitor, default.monitor);
    keys.other("failure_action", &value.failure_action, &default.failure_action, |it| {
        FailureActionKind::word(it).into()
    });
    keys.number("max_unavailable", value.max_unavailable, default.max_unavailable);
    if let Some(url) = &value.admit {
        keys.set("admit", text(url));
    }
    keys
}
