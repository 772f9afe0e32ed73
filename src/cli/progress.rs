use super::{Client, change::open, output};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use std::{
    pin::pin,
    time::{Duration, Instant},
};

/// Between two looks at what is still open.
const LOOK: Duration = Duration::from_millis(200);

/// Between two lines, where there is no terminal.
const PAUSE: Duration = Duration::from_secs(1);

/// What a waiting command shows: how much is still in flight.
pub(super) struct Progress {
    /// What to look at.
    path: String,
    /// How much of it is still open.
    open: Box<dyn Fn(&Value) -> u64>,
}

impl Progress {
    /// Of the pools of a service for which `left` holds.
    pub(super) fn pools(service: &str, left: impl Fn(&Value) -> bool + 'static) -> Self {
        let open = move |view: &Value| {
            let pools = view["pools"].as_array().map(Vec::as_slice).unwrap_or_default();
            pools
                .iter()
                .filter(|pool| left(pool))
                .filter_map(|pool| pool["in_flight"].as_u64())
                .sum()
        };
        Self { path: super::path::service(service), open: Box::new(open) }
    }

    /// Of everything that is on its way out.
    pub(super) fn drains() -> Self {
        Self::of_drains(|_| true)
    }

    /// Of some backends of a pool, be they drained or removed.
    pub(super) fn backends(service: &str, pool: &str, addresses: Vec<String>) -> Self {
        let place =
            [("service", service), ("pool", pool)].map(|(key, name)| (key, name.to_owned()));
        Self::of_drains(move |drain| {
            place.iter().all(|(key, name)| drain[*key] == **name)
                && addresses.iter().any(|address| drain["backend"] == **address)
        })
    }

    fn of_drains(wanted: impl Fn(&Value) -> bool + 'static) -> Self {
        let open = move |drains: &Value| {
            let drains = drains.as_array().map(Vec::as_slice).unwrap_or_default();
            drains.iter().filter(|drain| wanted(drain)).map(|drain| open(&drain["in_flight"])).sum()
        };
        Self { path: "/v1/drains".to_owned(), open: Box::new(open) }
    }

    /// Shows it until `work` is done: on a terminal in one place, elsewhere by a line on stderr when it has changed.
    pub(super) async fn during<T>(self, client: &Client, work: impl Future<Output = T>) -> T {
        let bar = ProgressBar::new_spinner();
        if bar.is_hidden() && client.json() {
            return work.await;
        }
        let mut lines = Lines::default();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut work = pin!(work);
        let result = loop {
            tokio::select! {
                result = work.as_mut() => break result,
                () = self.look(client, &bar, &mut lines) => {}
            }
        };
        bar.finish_and_clear();
        result
    }

    async fn look(&self, client: &Client, bar: &ProgressBar, lines: &mut Lines) {
        if let Ok(view) = client.get(&self.path).await {
            let open = (self.open)(&view);
            let text = format!("waiting, {open} in flight");
            if !bar.is_hidden() {
                bar.set_message(text);
            } else if lines.is_news(open, Instant::now()) {
                output::say(&text);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What was said last, and when.
#[derive(Default)]
struct Lines(Option<(u64, Instant)>);

impl Lines {
    /// That nothing is open any more is said by the end of the command.
    fn is_news(&mut self, open: u64, now: Instant) -> bool {
        let is_news = open > 0
            && self.0.is_none_or(|(last, at)| {
                last != open && now.saturating_duration_since(at) >= PAUSE
            });
        if is_news {
            self.0 = Some((open, now));
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_change_but_not_too_many() {
        let mut lines = Lines::default();
        let began = Instant::now();
        let looks = [(0, 0), (5, 0), (5, 9), (4, 10), (3, 10), (2, 11), (0, 99), (2, 99)];
        let said = looks.map(|(open, second)| {
            lines.is_news(open, began + Duration::from_secs(second)).then_some(open)
        });
        assert_eq!(said, [None, Some(5), None, Some(4), None, Some(2), None, None]);
    }

    #[test]
    fn counts_what_is_waited_for() {
        let view = json!({"pools": [
            {"name": "blue", "in_flight": 6},
            {"name": "green", "in_flight": 100},
        ]});
        let progress = Progress::pools("shop", |pool| pool["name"] != "green");
        assert_eq!((progress.open)(&view), 6);

        let drains = json!([
            {"service": "shop", "pool": "blue", "backend": "a:1", "in_flight": {"request": 4}},
            {"service": "shop", "pool": "blue", "backend": "b:1", "in_flight": {"request": 8}},
        ]);
        assert_eq!((Progress::backends("shop", "blue", vec!["a:1".to_owned()]).open)(&drains), 4);
    }
}
