use super::{Client, Failure, output};
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};
use serde::Deserialize;
use serde_json::Value;
use std::{fmt::Write, time::Duration};

/// Between two looks of `--watch`.
const LOOK: Duration = Duration::from_secs(1);

/// Moves to the top and clears what is below.
pub(super) const HOME: &str = "\x1b[H\x1b[J";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Only this one, with its backends
    service: Option<String>,
    /// Again and again, until interrupted
    #[arg(short, long)]
    watch: bool,
}

/// What is shown of the API's status; the rest may change as it likes.
#[derive(Deserialize)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) phase: String,
    pub(super) revision: u64,
    pub(super) config: Config,
    #[serde(default)]
    pub(super) state: State,
    #[serde(default)]
    pub(super) drift: u64,
    pub(super) needs_restart: Vec<String>,
    #[serde(default)]
    pub(super) acme: Vec<Order>,
    pub(super) services: Vec<Service>,
    #[serde(default)]
    pub(super) names: Vec<DnsName>,
}

#[derive(Deserialize)]
pub(super) struct DnsName {
    pub(super) name: String,
    pub(super) addresses: Vec<String>,
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Config {
    pub(super) file: Option<String>,
    pub(super) error: Option<String>,
}

#[derive(Default, Deserialize)]
pub(super) struct State {
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Order {
    pub(super) hosts: Vec<String>,
    pub(super) not_after: Option<String>,
    pub(super) next: String,
    pub(super) error: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) pools: Vec<Pool>,
    #[serde(default)]
    pub(super) rollout: Option<Rollout>,
}

#[derive(Deserialize)]
pub(super) struct Rollout {
    pub(super) id: String,
    pub(super) ended: Option<String>,
    pub(super) summary: String,
}

#[derive(Deserialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) weight: u32,
    pub(super) effective_weight: f64,
    pub(super) state: String,
    pub(super) in_flight: u64,
    pub(super) backends: Vec<Backend>,
    pub(super) rate: f64,
    pub(super) error_rate: Option<f64>,
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

#[derive(Deserialize)]
pub(super) struct Backend {
    pub(super) address: String,
    pub(super) weight: u32,
    pub(super) healthy: bool,
    #[serde(default)]
    pub(super) ejected: bool,
    pub(super) state: String,
    pub(super) in_flight: u64,
}

pub(super) async fn run(client: &Client, args: Args) -> Result<(), Failure> {
    let colours = output::colours();
    // Without a terminal there is nothing to clear: one look after the other.
    let clear = if args.watch && output::to_terminal() { HOME } else { "" };
    loop {
        let text = look(client, args.service.as_deref(), colours).await?;
        output::print(&format!("{clear}{text}"));
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(client: &Client, service: Option<&str>, colours: bool) -> Result<String, Failure> {
    if client.json() {
        let path = service.map_or_else(|| "/v1/status".to_owned(), super::path::service);
        return Ok(format!("{:#}\n", client.get(&path).await?));
    }
    let mut status: Status = read(client.get("/v1/status").await?)?;
    let mut text = head(&status);
    match service {
        None => {
            let _ = write!(text, "\n{}", pools(&status.services, colours));
            text.push_str(&rollouts(&status.services));
        }
        Some(name) => {
            status.services.retain(|service| service.name == name);
            let Some(service) = status.services.first() else {
                // The API says which there are.
                return client.get(&super::path::service(name)).await.map(|_| text);
            };
            let backends = backends(service, colours);
            let _ = write!(text, "\n{}\n{backends}", pools(&status.services, colours));
            text.push_str(&rollouts(&status.services));
        }
    }
    Ok(text)
}

pub(super) fn read<T: for<'a> Deserialize<'a>>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| {
        Failure::failed(format!(
            "the answer is not as expected ({error}); are both crossfades of the same version?"
        ))
    })
}

pub(super) fn head(status: &Status) -> String {
    let Status { version, phase, revision, .. } = status;
    let mut text = format!("crossfade {version}, {phase}, revision {revision}");
    if let Some(file) = &status.config.file {
        let _ = write!(text, ", {file}");
    }
    text.push('\n');
    if let Some(error) = &status.config.error {
        let _ = writeln!(text, "the file as it is now is not in force:");
        for line in error.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if status.drift > 0 {
        let values = if status.drift == 1 { "1 value differs" } else { "{} values differ" };
        let values = values.replace("{}", &status.drift.to_string());
        let _ = writeln!(
            text,
            "drift: {values} from the file; `crossfade adopt` prints a file that says the same"
        );
    }
    if let Some(error) = &status.state.error {
        let _ = writeln!(text, "changes cannot be kept, and are refused: {error}");
    }
    if !status.needs_restart.is_empty() {
        let _ = writeln!(text, "waits for a restart: {}", status.needs_restart.join(", "));
    }
    for DnsName { name, addresses, error } in &status.names {
        if let Some(error) = error {
            let kept = addresses.len();
            let _ = writeln!(text, "{name} is not resolved, {kept} addresses are kept: {error}");
        }
    }
    for order in &status.acme {
        let Order { hosts, not_after, next, error } = order;
        let Some(error) = error else { continue };
        let hosts = hosts.join(", ");
        let _ = match not_after {
            None => writeln!(text, "there is no certificate for {hosts}: {error}"),
            Some(at) => {
                writeln!(
                    text,
                    "the certificate for {hosts} expires {at} and is not renewed: {error}"
                )
            }
        };
        let _ = writeln!(text, "  next try: {next}");
    }
    text
}

pub(super) fn pools(services: &[Service], colours: bool) -> String {
    let mut table = table(
        &["SERVICE", "POOL", "VERSION", "STATE"],
        &["WEIGHT", "SHARE", "HEALTHY", "IN FLIGHT", "REQ/S", "ERRORS", "P50", "P95", "P99"],
        colours,
    );
    for service in services {
        for pool in &service.pools {
            table.add_row(pool.row(&service.name));
        }
    }
    finished(&table)
}

/// Those that are not over.
fn rollouts(services: &[Service]) -> String {
    let line = |service: &Service| {
        let Rollout { id, summary, .. } =
            service.rollout.as_ref().filter(|it| it.ended.is_none())?;
        let name = &service.name;
        Some(format!("rollout {id}: {summary}; see `crossfade rollout status {name}`\n"))
    };
    services.iter().filter_map(line).collect()
}

fn backends(service: &Service, colours: bool) -> String {
    let mut table =
        table(&["POOL", "BACKEND", "HEALTH", "STATE"], &["WEIGHT", "IN FLIGHT"], colours);
    for pool in &service.pools {
        for backend in &pool.backends {
            let health = if backend.healthy {
                Cell::new("healthy").fg(Color::Green)
            } else if backend.ejected {
                Cell::new("ejected").fg(Color::Red)
            } else {
                Cell::new("unhealthy").fg(Color::Red)
            };
            table.add_row([
                Cell::new(&pool.name),
                Cell::new(&backend.address),
                health,
                state(&backend.state),
                Cell::new(backend.weight),
                Cell::new(backend.in_flight),
            ]);
        }
    }
    finished(&table)
}

impl Pool {
    fn row(&self, service: &str) -> Vec<Cell> {
        let healthy = self.backends.iter().filter(|backend| backend.healthy).count();
        let all = self.backends.len();
        let health_colour = match healthy {
            0 => Color::Red,
            _ if healthy < all => Color::Yellow,
            _ => Color::Green,
        };
        let errors = Cell::new(self.error_rate.map_or_else(dash, percent));
        vec![
            Cell::new(service),
            Cell::new(&self.name).add_attribute(Attribute::Bold),
            Cell::new(&self.version),
            state(&self.state),
            Cell::new(self.weight),
            Cell::new(percent(self.effective_weight)),
            Cell::new(format!("{healthy}/{all}")).fg(health_colour),
            Cell::new(self.in_flight),
            Cell::new(format!("{:.1}", self.rate)),
            if self.error_rate > Some(0.0) { errors.fg(Color::Red) } else { errors },
            Cell::new(self.p50.map_or_else(dash, time)),
            Cell::new(self.p95.map_or_else(dash, time)),
            Cell::new(self.p99.map_or_else(dash, time)),
        ]
    }
}

fn state(state: &str) -> Cell {
    let cell = Cell::new(state);
    if state == "active" { cell } else { cell.fg(Color::Yellow) }
}

/// An empty table: columns of words, then of numbers.
pub(super) fn table(words: &[&str], numbers: &[&str], colours: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if colours {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let header = words.iter().chain(numbers);
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Dim)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
        if column.index >= words.len() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(super) fn finished(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

pub(super) fn dash() -> String {
    "-".to_owned()
}

pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent == 0.0 || percent >= 99.95 {
        format!("{percent:.0}%")
    } else {
        format!("{percent:.1}%")
    }
}

/// Three figures and a unit, as people say it.
pub(super) fn time(seconds: f64) -> String {
    let millis = seconds * 1e3;
    if millis < 10.0 {
        format!("{millis:.2}ms")
    } else if millis < 100.0 {
        format!("{millis:.1}ms")
    } else if millis < 1000.0 {
        format!("{millis:.0}ms")
    } else {
        format!("{seconds:.2}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shop() -> Service {
        let open = 3;
        let backend = |address: &str, healthy: bool| {
            json!({"address": address, "weight": 1, "healthy": healthy, "state": "active",
                "in_flight": open})
        };
        let pool = json!({"name": "blue", "version": "v1", "weight": 95, "effective_weight": 0.95,
            "state": "active", "in_flight": open, "rate": 12.34, "error_rate": 0.0123, "p50": 0.00123,
            "p95": 0.0456, "p99": 1.5,
            "backends": [backend("127.0.0.1:1", true), backend("127.0.0.1:2", false),
                json!({"address": "127.0.0.1:3", "weight": 1, "healthy": false, "ejected": true,
                    "state": "active", "in_flight": 0})]});
        serde_json::from_value(json!({"name": "shop", "pools": [pool]})).unwrap()
    }

    #[test]
    fn plain_tables_have_columns_and_no_colours() {
        let text = pools(&[shop()], false);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            lines[1],
            [
                "shop", "blue", "v1", "active", "95", "95.0%", "1/3", "3", "12.3", "1.2%",
                "1.23ms", "45.6ms", "1.50s"
            ]
        );
        assert!(!text.contains('\x1b'));
        assert!(pools(&[shop()], true).contains('\x1b'));
    }

    #[test]
    fn a_rollout_that_is_not_over_is_said() {
        let mut shop = shop();
        assert_eq!(rollouts(std::slice::from_ref(&shop)), "");
        let rollout = |ended: Option<&str>| {
            let ended = ended.map(str::to_owned);
            Some(Rollout { id: "shop-1".to_owned(), ended, summary: "running".to_owned() })
        };
        shop.rollout = rollout(Some("2026-01-02T03:04:05Z"));
        assert_eq!(rollouts(std::slice::from_ref(&shop)), "");
        shop.rollout = rollout(None);
        let text = rollouts(&[shop]);
        assert_eq!(text, "rollout shop-1: running; see `crossfade rollout status shop`\n");
    }

    #[test]
    fn backends_of_a_service() {
        let text = backends(&shop(), false);
        assert!(text.contains("127.0.0.1:2"), "{text}");
        assert_eq!(text.matches("unhealthy").count(), 1);
        assert_eq!(text.matches("ejected").count(), 1);
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(percent(0.001), "0.1%");
        assert_eq!(time(0.0001), "0.10ms");
        assert_eq!(time(0.25), "250ms");
    }

    #[test]
    fn a_broken_file_and_a_needed_restart_are_said() {
        let status: Status = serde_json::from_value(json!({
            "version": "1", "phase": "ready", "revision": 3, "services": [],
            "config": {"file": "a.yaml", "loaded_at": null, "error": "a.yaml:1:1: x\na.yaml:2:1: y"},
            "needs_restart": ["threads"], "listeners": [],
            "names": [{"name": "dns:a:1", "addresses": ["10.0.0.1:1"], "error": "SERVFAIL"},
                {"name": "dns:b:1", "addresses": [], "error": null}],
        }))
        .unwrap();
        let text = head(&status);
        assert!(text.contains("  a.yaml:2:1: y\n"), "{text}");
        assert!(text.contains("waits for a restart: threads"), "{text}");
        assert!(text.contains("dns:a:1 is not resolved, 1 addresses are kept: SERVFAIL"), "{text}");
        assert!(!text.contains("dns:b:1"), "{text}");
    }

    #[test]
    fn certificates_that_cannot_be_had_are_said() {
        let order = |host: &str, not_after: Option<&str>, error: Option<&str>| {
            json!({"hosts": [host], "not_after": not_after, "next": "2026-01-02T03:04:05Z",
                "error": error})
        };
        let status: Status = serde_json::from_value(json!({
            "version": "1", "phase": "ready", "revision": 3, "services": [],
            "config": {"file": null, "loaded_at": null, "error": null},
            "needs_restart": [], "listeners": [],
            "acme": [order("a.example", None, Some("no DNS")), order("good.example", None, None),
                order("b.example", Some("2026-02-01T00:00:00Z"), Some("limit"))],
        }))
        .unwrap();
        let text = head(&status);
        assert!(text.contains("there is no certificate for a.example: no DNS\n"), "{text}");
        assert!(text.contains("b.example expires 2026-02-01T00:00:00Z and is not renewed: limit"));
        assert!(text.contains("next try: 2026-01-02T03:04:05Z") && !text.contains("good"));
    }
}
