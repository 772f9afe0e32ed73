//! What all verbs that change something have in common.

use super::{Client, Failure, duration, output, progress::Progress};
use crate::config::{Problem, format_duration};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

#[derive(clap::Args)]
pub(super) struct ChangeArgs {
    /// Why, for whoever looks at it later
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Return when what gets no new requests is idle, at the latest after DURATION
    #[arg(long, value_name = "DURATION", value_parser = duration, num_args = 0..=1,
        default_missing_value = "1h")]
    wait: Option<Duration>,
}

impl ChangeArgs {
    pub(super) fn new(cause: Option<String>, dry_run: bool) -> Self {
        Self { cause, dry_run, wait: None }
    }

    pub(super) fn dry_run() -> Self {
        Self::new(None, true)
    }
}

/// For changes that give traffic to a pool.
#[derive(clap::Args)]
pub(super) struct TrafficArgs {
    /// Go on although a pool that gets traffic has no healthy backend
    #[arg(long)]
    force: bool,
    /// Wait this long for a healthy backend first
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait_healthy: Option<Duration>,
}

/// A change to ask for.
pub(super) struct Request {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    dry_run: bool,
    /// How long the API is asked to wait for anything.
    waits: Duration,
    wait: bool,
    /// How warnings end that the user has been told already.
    told: Vec<String>,
}

impl Request {
    pub(super) fn new(method: Method, path: String, body: Option<Value>, args: ChangeArgs) -> Self {
        let mut query = Vec::new();
        if let Some(wait) = args.wait {
            query.push(("wait", format_duration(wait)));
        }
        if args.dry_run {
            query.push(("dry_run", "true".to_owned()));
        }
        if let Some(cause) = args.cause {
            query.push(("cause", cause));
        }
        Self {
            method,
            path,
            query,
            body,
            dry_run: args.dry_run,
            waits: args.wait.unwrap_or_default(),
            wait: args.wait.is_some(),
            told: Vec::new(),
        }
    }

    /// The API reads the document again: what of it was told, with its place in the file, is not told twice.
    pub(super) fn told(mut self, warnings: &[Problem]) -> Self {
        let end = |it: &Problem| format!(": {}: {}; {}", it.path, it.message, it.fix);
        self.told = warnings.iter().map(end).collect();
        self
    }

    pub(super) fn traffic(mut self, args: &TrafficArgs) -> Self {
        if args.force {
            self.query.push(("force", "true".to_owned()));
        }
        if let Some(wait) = args.wait_healthy {
            self.query.push(("wait_healthy", format_duration(wait)));
            self.waits = self.waits.saturating_add(wait);
        }
        self
    }

    /// The answer may take as long as usual, whatever `--timeout` says: that is for something else.
    pub(super) fn patient(mut self) -> Self {
        self.waits = self.waits.saturating_add(super::client::ANSWER_TIMEOUT);
        self
    }

    /// Asks for it and returns the receipt.
    pub(super) async fn ask(self, client: &Client) -> Result<Value, Failure> {
        client.change(self.method, &self.path, &self.query, self.body.as_ref(), self.waits).await
    }

    /// Asks for it and prints the receipt. While the API waits, `progress` shows for what.
    pub(super) async fn send(self, client: &Client, progress: Progress) -> Result<(), Failure> {
        let asked =
            client.change(self.method, &self.path, &self.query, self.body.as_ref(), self.waits);
        let mut receipt =
            if self.wait { progress.during(client, asked).await? } else { asked.await? };
        if client.json() {
            output::print(&format!("{receipt:#}\n"));
        } else {
            if let Some(warnings) = receipt["warnings"].as_array_mut() {
                let is_told = |it: &str| self.told.iter().any(|end| it.ends_with(&**end));
                warnings.retain(|warning| !warning.as_str().is_some_and(is_told));
            }
            show(&receipt, self.dry_run);
            if self.wait && !self.dry_run {
                output::print("  nothing of before is in flight any more\n");
            }
        }
        Ok(())
    }
}

/// Prints a receipt for people.
pub(super) fn show(receipt: &Value, dry_run: bool) {
    output::print(&describe(receipt, dry_run));
    for warning in texts(&receipt["warnings"]) {
        output::say(&format!("warning: {warning}"));
    }
}

/// A receipt in words.
fn describe(receipt: &Value, dry_run: bool) -> String {
    let changed = receipt["changed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = match (receipt["revision"].as_u64(), changed.is_empty()) {
        (_, true) if dry_run => "nothing would change\n".to_owned(),
        (_, false) if dry_run => "would change\n".to_owned(),
        _ if receipt["hold"].is_object() => held(&receipt["hold"]),
        _ if receipt["released"].is_object() => released(&receipt["released"]),
        (Some(revision), true) => format!("nothing to change, still at revision {revision}\n"),
        (Some(revision), false) => format!("revision {revision}\n"),
        (None, _) => String::new(),
    };
    text.push_str(&changes(&receipt["changed"]));
    if dry_run {
        text.push_str(&forecast(&receipt["preview"]));
    }
    let left = receipt["in_flight"].as_array().map(Vec::as_slice).unwrap_or_default();
    for left in left {
        let open = open(left);
        if open > 0 {
            let place = ["service", "pool", "backend"].map(|key| left[key].as_str());
            let place: Vec<&str> = place.into_iter().flatten().collect();
            text.push_str(&format!("  {open} in flight on {} at that moment\n", place.join("/")));
        }
    }
    let drains = texts(&receipt["drains"]);
    if !drains.is_empty() {
        text.push_str(&format!("  draining: {}\n", drains.join(", ")));
    }
    text
}

/// Where requests such as those of the last hour would go.
fn forecast(preview: &Value) -> String {
    let (Some(requests), Some(samples)) =
        (preview["requests"].as_u64(), preview["samples"].as_u64())
    else {
        return String::new();
    };
    if samples == 0 {
        return "  no request of the last hour is known\n".to_owned();
    }
    let percent = |of: &Value, key: &str| 100.0 * of[key].as_f64().unwrap_or_default();
    let line = |of: &Value| {
        format!(
            "{:.2} % elsewhere, {:.2} % nowhere",
            percent(of, "elsewhere"),
            percent(of, "nowhere")
        )
    };
    let mut text = format!(
        "  of about {requests} requests of the last hour (by {samples} of them) would go: {}\n",
        line(preview)
    );
    for service in preview["services"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let name = service["service"].as_str().unwrap_or_default();
        text.push_str(&format!("    {name}: {}\n", line(service)));
        for example in texts(&service["examples"]) {
            text.push_str(&format!("      nobody would answer {example}\n"));
        }
    }
    text
}

fn held(hold: &Value) -> String {
    let [service, until] = ["service", "until"].map(|key| hold[key].as_str().unwrap_or_default());
    format!(
        "{service} is held until {until}: `crossfade release {service}` lets its requests go on\n"
    )
}

fn released(hold: &Value) -> String {
    let service = hold["service"].as_str().unwrap_or_default();
    let held = hold["held"].as_u64().unwrap_or_default();
    format!("{service} is released, {held} requests had to wait\n")
}

/// What differs, a line each.
pub(super) fn changes(changed: &Value) -> String {
    let changed = changed.as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |change: &Value| {
        let path = change["path"].as_str().unwrap_or_default();
        format!("  {path}: {} -> {}\n", value(&change["from"]), value(&change["to"]))
    };
    changed.iter().map(line).collect()
}

/// Values of the configuration, short enough for a line.
fn value(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

/// Requests in flight of all kinds.
pub(super) fn open(counts: &Value) -> u64 {
    ["request", "stream", "tunnel"].iter().filter_map(|kind| counts[*kind].as_u64()).sum()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().map(|l| l.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn receipts_in_words() {
        let receipt = json!({
            "revision": 7,
            "changed": [{"path": "services.shop.pools.blue.weight", "from": 95, "to": 0}],
            "in_flight": [
                {"service": "shop", "pool": "blue", "backend": null, "request": 2, "stream": 1, "tunnel": 0},
                {"service": "shop", "pool": "red", "backend": "a:1", "request": 0, "stream": 0, "tunnel": 0},
            ],
            "drains": ["d-1", "d-2"],
        });
        assert_eq!(
            describe(&receipt, false),
            "revision 7\n  services.shop.pools.blue.weight: 95 -> 0\n  3 in flight on shop/blue at that \
             moment\n  draining: d-1, d-2\n"
        );
        let same = json!({"revision": 7, "changed": []});
        assert_eq!(describe(&same, false), "nothing to change, still at revision 7\n");
        assert_eq!(describe(&json!({"changed": []}), true), "nothing would change\n");
    }

    #[test]
    fn forecasts_in_words() {
        let preview = json!({
            "requests": 4000, "samples": 900, "elsewhere": 0.125, "nowhere": 0.0102,
            "services": [{"service": "shop", "elsewhere": 0.125, "nowhere": 0.0102, "examples": ["GET a/b"]}],
        });
        let text = describe(&json!({"changed": [], "preview": preview}), true);
        assert_eq!(
            text,
            "nothing would change\n  of about 4000 requests of the last hour (by 900 of them) would go: \
             12.50 % elsewhere, 1.02 % nowhere\n    shop: 12.50 % elsewhere, 1.02 % nowhere\n      \
             nobody would answer GET a/b\n"
        );
        let unknown = json!({"changed": [], "preview": {"requests": 0, "samples": 0}});
        assert!(describe(&unknown, true).contains("no request of the last hour is known"));
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(value(&json!("x".repeat(100))).chars().count(), 61);
        assert_eq!(value(&json!(null)), "nothing");
    }
}
