//! The gates of a rollout, and who is told of it.

use super::{
    super::{
        keys::{self, HookSection, PrometheusSection, WebhookSection},
        problem::quote,
        reader::{At, Field, Reader},
        tree::NodeId,
    },
    tls,
};
use crate::spec::{
    Gates, Hook, LatencyGate, Name, PrometheusGate, Regression, RolloutPlan, WebhookGate,
};
use std::{collections::HashMap, path::PathBuf};

/// Names of gates; where they stand, if it is in the same text.
type Names = HashMap<Name, Option<NodeId>>;

/// Each key that is there replaces that of `base`.
pub(super) fn gates(reader: &mut Reader<'_>, keys: keys::Gates, base: &Gates) -> Gates {
    let default = Gates::default();
    let place = keys.webhooks.node().or(keys.prometheus.node());
    let mut names = Names::new();
    if let Field::Absent = keys.prometheus {
        names.extend(base.prometheus.iter().map(|gate| (gate.name.clone(), None)));
    }
    if let Field::Absent = keys.webhooks {
        names.extend(base.webhooks.iter().map(|gate| (gate.name.clone(), None)));
    }
    let gates = Gates {
        error_rate: match keys.error_rate {
            Field::Good(at) => at.value.and_then(|keys| keys.max.value().or(default.error_rate)),
            _ => base.error_rate,
        },
        latency: match keys.latency {
            Field::Good(at) => at.value.map(|keys| LatencyGate {
                quantile: keys.quantile.or(LatencyGate::default().quantile),
                max: keys.max.or(LatencyGate::default().max),
            }),
            _ => base.latency,
        },
        regression: match keys.regression {
            Field::Good(at) => at.value.map(|keys| Regression {
                error_rate: keys.error_rate.or(Regression::default().error_rate),
                latency_millionths: (keys.latency.value())
                    .unwrap_or(Regression::default().latency_millionths),
            }),
            _ => base.regression,
        },
        prometheus: match keys.prometheus {
            Field::Good(list) => prometheus(reader, list.value, &mut names),
            _ => base.prometheus.clone(),
        },
        webhooks: match keys.webhooks {
            Field::Good(list) => webhooks(reader, list.value, &mut names),
            _ => base.webhooks.clone(),
        },
    };
    let count = gates.prometheus.len() + gates.webhooks.len();
    if let (Some(place), true) = (place, count > Gates::MOST) {
        let message = format!("{count} queries and webhooks");
        reader.problem(place, message, format!("use at most {}", Gates::MOST));
    }
    gates
}

fn prometheus(
    reader: &mut Reader<'_>,
    list: Vec<At<PrometheusSection>>,
    names: &mut Names,
) -> Vec<PrometheusGate> {
    let mut gates = Vec::new();
    for At { value: keys, .. } in list {
        let name = unique(reader, keys.name, names);
        let (Some(url), Some(query)) = (keys.url.value(), keys.query.value()) else { continue };
        let (Some(name), Some(max)) = (name, keys.max.value()) else { continue };
        let interval = keys.interval.or(PrometheusGate::INTERVAL);
        let timeout = keys.timeout.or(PrometheusGate::TIMEOUT);
        gates.push(PrometheusGate { name, url, query, max, interval, timeout });
    }
    gates
}

fn webhooks(
    reader: &mut Reader<'_>,
    list: Vec<At<WebhookSection>>,
    names: &mut Names,
) -> Vec<WebhookGate> {
    let mut gates = Vec::new();
    for At { value: keys, .. } in list {
        let name = unique(reader, keys.name, names);
        let key_file = key_file(reader, keys.key_file);
        let (Some(name), Some(url)) = (name, keys.url.value()) else { continue };
        gates.push(WebhookGate {
            name,
            url,
            when: keys.when.value().unwrap_or_default(),
            interval: keys.interval.or(WebhookGate::INTERVAL),
            timeout: keys.timeout.or(WebhookGate::TIMEOUT),
            key_file,
        });
    }
    gates
}

fn unique(reader: &mut Reader<'_>, field: Field<Name>, names: &mut Names) -> Option<Name> {
    let At { value: name, node } = field.good()?;
    if let Some(first) = names.insert(name.clone(), Some(node)) {
        let fix = match first {
            Some(first) => {
                format!("give another name; the first is on line {}", reader.line(first))
            }
            None => "give another name; the other gate is that of the service".to_owned(),
        };
        reader.problem(node, format!("{} is the name of two gates", quote(&name)), fix);
    }
    Some(name)
}

pub(super) fn hooks(
    reader: &mut Reader<'_>,
    At { value: list, node }: At<Vec<At<HookSection>>>,
) -> Vec<Hook> {
    if list.len() > RolloutPlan::MOST_HOOKS {
        let message = format!("{} hooks", list.len());
        reader.problem(node, message, format!("use at most {}", RolloutPlan::MOST_HOOKS));
    }
    let mut hooks = Vec::new();
    for At { value: keys, .. } in list {
        let key_file = key_file(reader, keys.key_file);
        let (Some(on), Some(url)) = (keys.on.value(), keys.url.value()) else { continue };
        hooks.push(Hook { on, url, key_file });
    }
    hooks
}

/// Where the key is. It is read when something is signed; here, whether it could be.
fn key_file(reader: &mut Reader<'_>, field: Field<PathBuf>) -> Option<PathBuf> {
    let at = field.good()?;
    if reader.surroundings.own {
        return Some(reader.directory.join(&at.value));
    }
    let (path, content) = tls::file(reader, &at, "key")?;
    let shown = quote(&at.value.display().to_string());
    if content.trim_ascii().is_empty() {
        reader.problem(
            at.node,
            format!("there is no key in {shown}"),
            "put a secret into it, such as that of `openssl rand -base64 32`",
        );
    }
    if (reader.surroundings.others_read)(&path) {
        reader.warn(
            at.node,
            format!("everybody on this machine can read the key {shown}"),
            "let only crossfade's user read it (`chmod 600`)",
        );
    }
    Some(path.to_path_buf())
}
