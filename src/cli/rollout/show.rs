//! A rollout in words and tables, from what the API says of it.

use crate::cli::status::{dash, finished, percent, table, time};
use comfy_table::{Attribute, Cell, Color};
use serde_json::Value;
use std::fmt::Write;

/// Routes that are shown.
const ROUTES: usize = 3;

/// All there is to say.
pub(super) fn whole(rollout: &Value, colours: bool) -> String {
    let mut out = head(rollout);
    let _ = writeln!(out, "steps: {}", steps(rollout));
    let _ = write!(out, "\n{}\n{}", versions(rollout, colours), evidence(rollout));
    out.push_str(&lacks(rollout));
    out.push_str(&gates(rollout));
    out.push_str(&routes(rollout));
    out
}

/// What changes from second to second.
pub(in crate::cli) fn live(rollout: &Value, colours: bool) -> String {
    let summary = text(rollout, "summary");
    let (service, versions) = (text(rollout, "service"), versions(rollout, colours));
    format!("{service}: {summary}\n{versions}{}{}", evidence(rollout), lacks(rollout))
}

/// Why it is where it is: what both versions did so far, the evidence, what is missing, gates.
pub(in crate::cli) fn said(rollout: &Value) -> String {
    let (stable, canary) = (version(rollout, "stable", "from"), version(rollout, "canary", "to"));
    let so_far = format!("so far: {stable}; {canary}\n");
    format!("{so_far}{}{}{}", evidence(rollout), lacks(rollout), gates(rollout))
}

/// Stages that are done, and all.
pub(super) fn progress(rollout: &Value) -> (u64, u64) {
    let stages = list(&rollout["stages"]);
    let done = stages.iter().filter(|stage| stage["state"] == "done").count();
    (done as u64, stages.len() as u64)
}

/// Where it stands, as one line.
pub(super) fn line(rollout: &Value) -> String {
    let (stable, canary) = (version(rollout, "stable", "from"), version(rollout, "canary", "to"));
    let service = text(rollout, "service");
    format!("{} {service}: {}; {stable}; {canary}\n", now(), text(rollout, "summary"))
}

fn version(rollout: &Value, role: &str, pool: &str) -> String {
    let version = &rollout[role];
    let errors = version["error_rate"].as_f64().map_or_else(dash, percent);
    let p99 = version["p99"].as_f64().map_or_else(dash, time);
    let pool = text(rollout, pool);
    format!("{pool} {} requests, {errors} errors, p99 {p99}", version["requests"])
}

/// Something that has happened, as one line.
pub(in crate::cli) fn notice(rollout: &Value, notice: &Value) -> String {
    let (step, steps) = (&notice["step"], &rollout["steps"]);
    let share = notice["share"].as_f64().map_or_else(dash, percent);
    let (at, event) = (text(notice, "at"), text(notice, "event"));
    let (service, to) = (text(rollout, "service"), text(rollout, "to"));
    let mut line = format!("{at} {service}: {event}, step {step} of {steps}, {share} on {to}");
    if let Some(author) = notice["by"]["author"].as_str() {
        let _ = write!(line, ", by {author}");
    }
    let why = notice["why"]["text"].as_str().or(notice["by"]["cause"].as_str());
    if let Some(why) = why {
        let _ = write!(line, ": {why}");
    }
    line.push('\n');
    line
}

/// Those that were.
pub(super) fn past(rollouts: &[Value], colours: bool) -> String {
    let mut table = table(
        &["ROLLOUT", "SERVICE", "STATE", "STRATEGY", "FROM", "TO", "STARTED"],
        &["STEP", "REQUESTS", "ERRORS", "P99"],
        colours,
    );
    for rollout in rollouts {
        let words = ["id", "service", "state", "strategy", "from", "to", "started"];
        let mut row: Vec<Cell> = words.iter().map(|key| Cell::new(text(rollout, key))).collect();
        let canary = &rollout["canary"];
        row.extend([
            Cell::new(format!("{}/{}", rollout["step"], rollout["steps"])),
            Cell::new(&canary["requests"]),
            Cell::new(canary["error_rate"].as_f64().map_or_else(dash, percent)),
            Cell::new(canary["p99"].as_f64().map_or_else(dash, time)),
        ]);
        table.add_row(row);
    }
    finished(&table)
}

/// What a rollout would see.
pub(super) fn outlook(outlook: &Value, colours: bool) -> String {
    let (service, from, to) =
        (text(outlook, "service"), text(outlook, "from"), text(outlook, "to"));
    let mut out = format!("{service}, from {from} to {to}, at ");
    let _ = match outlook["rate"].as_f64() {
        Some(rate) => {
            let errors = percent(outlook["error_rate"].as_f64().unwrap_or_default());
            writeln!(out, "{rate:.1} requests/s of which {errors} fail on {from}")
        }
        None => writeln!(out, "a traffic that is not known yet; ask again in a minute"),
    };
    let mut table =
        table(&["STEP", "STAGE"], &["SHARE", "TAKES", "SEES", "BROKEN IS CUT AFTER"], colours);
    for step in list(&outlook["steps"]) {
        table.add_row([
            Cell::new(&step["step"]),
            Cell::new(text(step, "kind")),
            Cell::new(step["share"].as_f64().map_or_else(dash, percent)),
            Cell::new(step["seconds"].as_f64().map_or_else(dash, span)),
            Cell::new(step["smallest"].as_f64().map_or_else(dash, percent)),
            Cell::new(step["seconds_to_abort"].as_f64().map_or_else(dash, span)),
        ]);
    }
    let _ = write!(out, "\n{}\n", finished(&table));
    let _ = match outlook["seconds"].as_f64() {
        Some(seconds) => writeln!(out, "all of it takes about {}", span(seconds)),
        None => writeln!(out, "a step waits for a person, or is not left behind at this traffic"),
    };
    out.push_str(
        "SEES: the smallest error rate of the new version that is noticed within the step; BROKEN: of which 5% fail\n",
    );
    out
}

fn head(rollout: &Value) -> String {
    let [id, service, strategy, from, to, started] =
        ["id", "service", "strategy", "from", "to", "started"].map(|key| text(rollout, key));
    let mut out = format!("rollout {id} of {service}: {strategy}, from {from} to {to}\n");
    let _ = write!(out, "started {started}");
    if let Some(author) = rollout["by"]["author"].as_str() {
        let _ = write!(out, " by {author}");
    }
    if let Some(cause) = rollout["by"]["cause"].as_str() {
        let _ = write!(out, ": {cause}");
    }
    if let Some(ended) = rollout["ended"].as_str() {
        let _ = write!(out, "; ended {ended}");
    }
    if let Some(until) = rollout["paused"]["until"].as_str() {
        let _ = write!(out, "; paused until {until}");
    }
    let _ = writeln!(out, "\n{}", text(rollout, "summary"));
    out
}

fn steps(rollout: &Value) -> String {
    let with_state = |it: &Value| format!("{} {}", stage(it), text(it, "state"));
    let stages: Vec<String> = list(&rollout["stages"]).iter().map(with_state).collect();
    stages.join(", ")
}

/// What a stage does.
pub(in crate::cli) fn stage(stage: &Value) -> String {
    let share = stage["share"].as_f64().map_or_else(dash, percent);
    match text(stage, "kind") {
        "step" => share,
        kind => format!("{kind} {share}"),
    }
}

fn versions(rollout: &Value, colours: bool) -> String {
    let mut table = table(
        &["POOL", "IS"],
        &["WEIGHT", "REQUESTS", "REQ/S", "ERRORS", "SLOW", "P50", "P95", "P99"],
        colours,
    );
    for (role, pool) in [("stable", text(rollout, "from")), ("canary", text(rollout, "to"))] {
        let version = &rollout[role];
        let error_rate = version["error_rate"].as_f64();
        let errors = Cell::new(error_rate.map_or_else(dash, percent));
        let weight = rollout["weights"][pool].as_u64();
        let quantile = |key: &str| Cell::new(version[key].as_f64().map_or_else(dash, time));
        table.add_row([
            Cell::new(pool).add_attribute(Attribute::Bold),
            Cell::new(role),
            Cell::new(weight.map_or_else(dash, |weight| weight.to_string())),
            Cell::new(&version["requests"]),
            Cell::new(format!("{:.1}", version["rate"].as_f64().unwrap_or_default())),
            if error_rate > Some(0.0) { errors.fg(Color::Red) } else { errors },
            Cell::new(&version["slow"]),
            quantile("p50"),
            quantile("p95"),
            quantile("p99"),
        ]);
    }
    finished(&table)
}

fn evidence(rollout: &Value) -> String {
    let evidence = &rollout["evidence"];
    let figure = |key: &str| evidence[key].as_f64().unwrap_or_default();
    let to = text(rollout, "to");
    format!(
        "evidence against {to}: {:.2}, it is cut at {:.0} (errors {:.2}, latency {:.2}, limits {:.2})\n",
        figure("against"),
        figure("needed"),
        figure("errors"),
        figure("latency"),
        figure("guards"),
    )
}

fn lacks(rollout: &Value) -> String {
    let line = |lack: &Value| {
        let eta = lack["eta_seconds"].as_f64();
        let eta = eta.map_or(String::new(), |eta| format!(" (about {})", span(eta)));
        format!("missing: {}{eta}\n", text(lack, "text"))
    };
    list(&rollout["lacks"]).iter().map(line).collect()
}

/// Those from elsewhere.
fn gates(rollout: &Value) -> String {
    let line = |gate: &Value| {
        let answer = gate["answer"].as_str().unwrap_or("has not answered");
        let said = gate["said"].as_str().map_or(String::new(), |said| format!(": {said}"));
        format!("gate {}: {answer}{said}\n", text(gate, "name"))
    };
    list(&rollout["gates"]).iter().map(line).collect()
}

/// Those in which the versions differ the most.
fn routes(rollout: &Value) -> String {
    let rate = |counts: &Value| {
        let count = |key: &str| counts[key].as_f64().unwrap_or_default();
        count("errors") / count("requests").max(1.0)
    };
    let routes = list(&rollout["routes"]).iter().filter_map(|route| {
        let (stable, canary) = (rate(&route["stable"]), rate(&route["canary"]));
        let name = route["route"].as_str().unwrap_or("all others");
        (stable != canary).then(|| {
            format!("route {name}: {} errors against {}\n", percent(canary), percent(stable))
        })
    });
    routes.take(ROUTES).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As people say it.
fn span(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0}s")
    } else if seconds < 7200.0 {
        format!("{:.0}m", seconds / 60.0)
    } else {
        format!("{:.1}h", seconds / 3600.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rollout() -> Value {
        let version = |requests: u64, errors: u64| {
            json!({ "requests": requests, "errors": errors, "error_rate": errors as f64 / requests as f64,
                "slow": 1, "rate": 12.5, "p50": 0.001, "p95": 0.02, "p99": 0.3 })
        };
        json!({
            "id": "shop-1", "service": "shop", "strategy": "canary", "state": "waiting", "from": "blue",
            "to": "green", "step": 1, "steps": 2, "share": 0.05, "started": "2026-01-02T03:04:05Z",
            "ended": null, "by": { "author": "ci", "cause": "release 2" }, "why": null,
            "summary": "waiting, step 1 of 2, 5 % on `green`: 7 more requests on `green`",
            "stable": version(1000, 1), "canary": version(50, 5), "paused": null,
            "weights": { "blue": 95, "green": 5 },
            "lacks": [{ "text": "7 more requests on `green`", "eta_seconds": 180.0 }],
            "evidence": { "against": 0.5, "needed": 100.0, "errors": 0.25, "latency": 0.25, "guards": 0.0 },
            "gates": [{ "name": "smoke", "answer": null, "said": null }],
            "routes": [
                { "route": "api", "stable": { "requests": 100, "errors": 0, "slow": 0 },
                    "canary": { "requests": 10, "errors": 5, "slow": 0 } },
                { "route": null, "stable": { "requests": 9, "errors": 0, "slow": 0 },
                    "canary": { "requests": 1, "errors": 0, "slow": 0 } },
            ],
            "stages": [
                { "kind": "touch", "step": 0, "share": 0.01, "state": "done" },
                { "kind": "step", "step": 1, "share": 0.05, "state": "current" },
                { "kind": "step", "step": 2, "share": 1.0, "state": "next" },
            ],
        })
    }

    #[test]
    fn all_there_is_to_say() {
        let text = whole(&rollout(), false);
        for line in [
            "rollout shop-1 of shop: canary, from blue to green",
            "started 2026-01-02T03:04:05Z by ci: release 2",
            "steps: touch 1.0% done, 5.0% current, 100% next",
            "evidence against green: 0.50, it is cut at 100 (errors 0.25, latency 0.25, limits 0.00)",
            "missing: 7 more requests on `green` (about 3m)",
            "gate smoke: has not answered",
            "route api: 50.0% errors against 0%",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(!text.contains("all others") && !text.contains('\x1b'), "{text}");
        let rows: Vec<Vec<&str>> = text.lines().map(|it| it.split_whitespace().collect()).collect();
        let row = ["green", "canary", "5", "50", "12.5", "10.0%", "1", "1.00ms", "20.0ms", "300ms"];
        assert!(rows.iter().any(|it| it[..] == row), "{text}");
        assert_eq!(progress(&rollout()), (1, 3));
    }

    #[test]
    fn what_happened_is_a_line() {
        let notice = json!({ "number": 1, "at": "2026-01-02T03:04:05Z", "event": "paused", "step": 1,
            "share": 0.05, "by": { "author": "ann", "cause": "lunch" }, "why": null });
        assert_eq!(
            super::notice(&rollout(), &notice),
            "2026-01-02T03:04:05Z shop: paused, step 1 of 2, 5.0% on green, by ann: lunch\n"
        );
        let line = line(&rollout());
        assert!(line.ends_with("green 50 requests, 10.0% errors, p99 300ms\n"), "{line}");
    }

    #[test]
    fn an_outlook_is_a_table() {
        let step = json!({ "kind": "step", "step": 1, "share": 0.05, "seconds": 600.0,
            "smallest": 0.012, "seconds_to_abort": null });
        let known = json!({ "service": "shop", "from": "blue", "to": "green", "rate": 100.0,
            "error_rate": 0.001, "steps": [step], "seconds": 8000.0 });
        let text = outlook(&known, false);
        let rows: Vec<Vec<&str>> = text.lines().map(|it| it.split_whitespace().collect()).collect();
        assert!(
            rows.iter().any(|it| it[..] == ["1", "step", "5.0%", "10m", "1.2%", "-"]),
            "{text}"
        );
        assert!(text.contains("100.0 requests/s") && text.contains("about 2.2h"), "{text}");
        let unknown = json!({ "service": "shop", "from": "blue", "to": "green", "rate": null });
        assert!(outlook(&unknown, false).contains("not known yet"));
    }
}
