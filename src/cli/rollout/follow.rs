use super::show;
use crate::{
    cli::{Client, Failure, output, path},
    config::format_duration,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// How long the admin API may be away: a restart, or an upgrade.
const AWAY: Duration = Duration::from_secs(30);

/// Without a terminal a line is said at least so often.
const SAY: Duration = Duration::from_secs(60);

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Over,
    /// A pause is enough.
    Paused,
}

/// Shows a rollout until it is over. It goes on when nobody follows it any more.
///
/// # Errors
/// When it does not end well, or nobody knows how.
pub(super) async fn follow(client: &Client, rollout: &Value, until: Until) -> Result<(), Failure> {
    let text = |key: &str| rollout[key].as_str().unwrap_or_default();
    let (id, service) = (text("id"), text("service"));
    let goes_on = |why: String| {
        Failure::gave_up(format!(
            "{why}; the rollout goes on: `crossfade rollout status {service} -w` follows it, \
             `crossfade rollout abort {service}` ends it"
        ))
    };
    tokio::select! {
        result = look_until(client, id, until) => result,
        _ = tokio::signal::ctrl_c() => Err(goes_on("interrupted".to_owned())),
        waited = give_up(client.patience()) => {
            Err(goes_on(format!("gave up waiting after {}", format_duration(waited))))
        }
    }
}

async fn give_up(patience: Option<Duration>) -> Duration {
    match patience {
        Some(patience) => {
            tokio::time::sleep(patience).await;
            patience
        }
        None => std::future::pending().await,
    }
}

async fn look_until(client: &Client, id: &str, until: Until) -> Result<(), Failure> {
    let path = path::rollout(id);
    let mut shown = Shown::new(client.json());
    let mut seen = Instant::now();
    loop {
        match client.get(&path).await {
            Ok(rollout) => {
                seen = Instant::now();
                shown.look(&rollout);
                if let Some(end) = end(&rollout, until) {
                    shown.end(&rollout);
                    return end;
                }
            }
            Err(failure) if seen.elapsed() >= AWAY => return Err(failure),
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether nothing happens to it any more.
pub(super) fn is_over(rollout: &Value) -> bool {
    ["promoted", "aborted", "superseded"].iter().any(|state| rollout["state"] == *state)
}

/// How it ended; `None`: it has not.
fn end(rollout: &Value, until: Until) -> Option<Result<(), Failure>> {
    let text = |key: &str| rollout[key].as_str().unwrap_or_default();
    let because =
        || format!("rollout {} of {} is {}", text("id"), text("service"), text("summary"));
    match text("state") {
        "promoted" => Some(Ok(())),
        "aborted" => Some(Err(Failure::aborted(because()))),
        "superseded" => Some(Err(Failure::failed(because()))),
        "paused" if until == Until::Paused => {
            let is_wanted = ["step", "person"].iter().any(|by| rollout["paused"]["by"] == *by);
            Some(if is_wanted { Ok(()) } else { Err(Failure::failed(because())) })
        }
        _ => None,
    }
}

/// What of a rollout was shown so far.
struct Shown {
    way: Way,
    /// The number of the last notice.
    notice: u64,
    said: Instant,
}

enum Way {
    /// The API's own words, at the end.
    Json,
    Lines,
    Live(ProgressBar),
}

impl Shown {
    fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new(0) };
        let way = if json {
            Way::Json
        } else if bar.is_hidden() || !output::to_terminal() {
            Way::Lines
        } else {
            if let Ok(style) = ProgressStyle::with_template("{elapsed} {bar:40} {pos}/{len}\n{msg}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(LOOK);
            Way::Live(bar)
        };
        Self { way, notice: 0, said: Instant::now() }
    }

    fn look(&mut self, rollout: &Value) {
        match &self.way {
            Way::Json => {}
            Way::Live(bar) => {
                let (done, all) = show::progress(rollout);
                bar.set_length(all);
                bar.set_position(done);
                bar.set_message(show::live(rollout, output::colours()));
            }
            Way::Lines => {
                let notices = rollout["notices"].as_array().map(Vec::as_slice).unwrap_or_default();
                let number = |notice: &Value| notice["number"].as_u64().unwrap_or_default();
                for notice in notices.iter().filter(|notice| number(notice) > self.notice) {
                    output::print(&show::notice(rollout, notice));
                    self.said = Instant::now();
                }
                self.notice = notices.last().map_or(self.notice, number);
                if self.said.elapsed() >= SAY {
                    output::print(&show::line(rollout));
                    self.said = Instant::now();
                }
            }
        }
    }

    fn end(&self, rollout: &Value) {
        match &self.way {
            Way::Json => output::print(&format!("{rollout:#}\n")),
            Way::Lines => output::print(&show::line(rollout)),
            Way::Live(bar) => {
                bar.finish_and_clear();
                output::print(&show::live(rollout, output::colours()));
            }
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Way::Live(bar) = &self.way {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn how_it_ends_is_an_exit_code() {
        let code = |state: &str, by: Option<&str>, until| {
            let rollout = json!({ "id": "r", "service": "shop", "state": state, "summary": state,
                "paused": by.map(|by| json!({ "by": by })) });
            end(&rollout, until).map(|end| end.map_or_else(|failure| failure.code(), |()| 0))
        };
        for until in [Until::Over, Until::Paused] {
            assert_eq!(code("promoted", None, until), Some(0));
            assert_eq!(code("superseded", None, until), Some(1));
            assert_eq!(code("aborted", None, until), Some(3));
            for goes_on in ["running", "waiting", "failed"] {
                assert_eq!(code(goes_on, None, until), None, "{goes_on}");
            }
        }
        assert_eq!(code("paused", Some("step"), Until::Over), None);
        for (by, wanted) in [("step", 0), ("person", 0), ("failure", 1), ("drift", 1)] {
            assert_eq!(code("paused", Some(by), Until::Paused), Some(wanted), "{by}");
        }
    }
}
