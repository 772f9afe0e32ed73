use super::{Failure, duration};
use crate::config::format_duration;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What a rollout is started with, or thought of.
#[derive(clap::Args)]
pub(super) struct Asked {
    /// As named in the configuration
    service: String,
    /// The pool to go to
    #[arg(long, value_name = "POOL")]
    to: String,
    /// The pool to go from [default: the only other one that has weight]
    #[arg(long, value_name = "POOL")]
    from: Option<String>,
    /// canary, blue_green, rolling, recreate or ab_test [default: as configured]
    #[arg(long, value_name = "STRATEGY")]
    strategy: Option<String>,
    /// Percent of the traffic, step by step: 5,25,50,100; 5:10m bakes for 10 minutes, `pause` waits for somebody to
    /// promote it, pause:1h for an hour [default: as configured]
    #[arg(long, value_name = "STEPS", value_delimiter = ',', value_parser = step)]
    steps: Vec<Value>,
    /// Shortest time of a step [default: as configured]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    bake: Option<Duration>,
    /// Any key of the plan, such as gates.error_rate.max=2% or rolling.parallelism=2
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, Value)>,
}

impl Asked {
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// As the admin API wants it.
    ///
    /// # Errors
    /// When a key is said twice.
    pub(super) fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::from_iter([("to".to_owned(), Value::from(&*self.to))]);
        let mut said = Vec::new();
        said.extend(self.from.as_ref().map(|from| ("from", json!(from))));
        said.extend(self.strategy.as_ref().map(|strategy| ("strategy", json!(strategy))));
        said.extend((!self.steps.is_empty()).then(|| ("steps", json!(self.steps))));
        said.extend(self.bake.map(|bake| ("bake", json!(format_duration(bake)))));
        body.extend(said.into_iter().map(|(key, value)| (key.to_owned(), value)));
        for (key, value) in &self.set {
            insert(&mut body, key, value.clone())
                .map_err(|()| Failure::usage(format!("`{key}` is said twice; say it once")))?;
        }
        Ok(body)
    }
}

/// `a.b.c` leads to the key `c` of the section `b` of the section `a`.
fn insert(section: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), ()> {
    let Some((first, rest)) = key.split_once('.') else {
        return if section.insert(key.to_owned(), value).is_some() { Err(()) } else { Ok(()) };
    };
    match section.entry(first).or_insert_with(|| json!({})) {
        Value::Object(within) => insert(within, rest, value),
        _ => Err(()),
    }
}

fn step(text: &str) -> Result<Value, String> {
    let wrong = || {
        format!(
            "`{text}` is no step: use a percentage (25), with a bake (25:10m), pause or pause:1h"
        )
    };
    let (what, time) = match text.split_once(':') {
        Some((what, time)) => (what, Some(duration(time)?)),
        None => (text, None),
    };
    let time = time.map(format_duration);
    if what == "pause" {
        return Ok(time.map_or_else(|| json!({ "pause": {} }), |time| json!({ "pause": time })));
    }
    let number = what.strip_suffix('%').unwrap_or(what);
    let share: Value = serde_json::from_str(number).map_err(|_| wrong())?;
    match time {
        _ if !share.is_number() => Err(wrong()),
        None => Ok(share),
        Some(time) => Ok(json!({ "share": share, "bake": time })),
    }
}

fn setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE, such as bake=10m")?;
    if key.split('.').any(str::is_empty) {
        return Err("use KEY=VALUE, such as gates.error_rate.max=2%".to_owned());
    }
    // What is no JSON is a text, so that nobody need quote it.
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_the_command_line() {
        for (text, wanted) in [
            ("5", json!(5)),
            ("0.1%", json!(0.1)),
            ("25:10m", json!({ "share": 25, "bake": "10m" })),
            ("pause", json!({ "pause": {} })),
            ("pause:1h", json!({ "pause": "1h" })),
        ] {
            assert_eq!(step(text).unwrap(), wanted, "{text}");
        }
        for bad in ["", "five", "5:", "5:soon", "pause:", "\"5\"", "[5]", "true"] {
            assert!(step(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_lead_into_sections() {
        let asked = |set: &[&str]| Asked {
            service: "shop".to_owned(),
            to: "green".to_owned(),
            from: None,
            strategy: Some("canary".to_owned()),
            steps: vec![json!(5), json!(100)],
            bake: Some(Duration::from_secs(60)),
            set: set.iter().map(|text| setting(text).unwrap()).collect(),
        };
        let set =
            ["gates.error_rate.max=2%", "gates.regression=off", "min_requests=20", "rescue=false"];
        assert_eq!(
            Value::from(asked(&set).body().unwrap()),
            json!({
                "to": "green", "strategy": "canary", "steps": [5, 100], "bake": "1m",
                "gates": { "error_rate": { "max": "2%" }, "regression": "off" },
                "min_requests": 20, "rescue": false,
            })
        );
        for twice in [["bake=1m", "a=1"], ["x=1", "x=2"], ["x=1", "x.y=2"]] {
            assert!(asked(&twice).body().is_err(), "{twice:?}");
        }
        for bad in ["bake", "=1", "a.=1", ".a=1"] {
            assert!(setting(bad).is_err(), "{bad}");
        }
    }
}
