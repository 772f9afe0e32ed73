//! The screen as letters. What there is no room for is left out, the least important first.

use super::{cards, screen::Screen};
use crate::cli::{rollout, status};
use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph},
};
use serde_json::Value;

/// Lines of drains, and of backends that are not well, at most; their number is told in any case.
const DRAINS: usize = 4;
const SICK: usize = 4;

/// Lines that each section below the pools gets if there is any room: its title and one more.
const LEAST: u16 = 2;

const HELP: [&str; 8] = [
    "left, right, tab   another service",
    "up, down           pools that did not fit",
    "s                  sort pools",
    "p, space           pause: keep what is shown",
    "q, escape          quit",
    "",
    "requests/s, errors and quantiles: the last 30 s",
    "times of day are UTC",
];

/// How to make letters stand out.
#[derive(Clone, Copy)]
pub(super) struct Paint {
    colours: bool,
}

impl Paint {
    /// `None`: as usual.
    pub(super) fn colour(self, colour: Option<Color>) -> Style {
        match colour {
            Some(colour) if self.colours => Style::new().fg(colour),
            // Without colours only what is wrong stands out.
            Some(Color::Red | Color::Yellow) => Style::new().add_modifier(Modifier::BOLD),
            _ => Style::new(),
        }
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    fn turned(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }
}

/// What is left of the screen, from the top.
struct Room {
    area: Rect,
}

impl Room {
    /// So many lines, or what there is.
    fn take(&mut self, lines: u16) -> Rect {
        let lines = lines.min(self.area.height);
        let taken = Rect { height: lines, ..self.area };
        self.area.y += lines;
        self.area.height -= lines;
        taken
    }

    fn take_last(&mut self) -> Rect {
        let lines = self.area.height.min(1);
        self.area.height -= lines;
        Rect { y: self.area.bottom(), height: lines, ..self.area }
    }
}

pub(super) fn draw(screen: &Screen, frame: &mut Frame<'_>) {
    let paint = Paint { colours: screen.colours };
    let mut room = Room { area: frame.area() };
    let lines = |lines: Vec<Line<'static>>, area: Rect, frame: &mut Frame<'_>| {
        frame.render_widget(Paragraph::new(lines), area);
    };
    lines(vec![head(screen, paint)], room.take(1), frame);
    let banners = banners(screen, paint);
    // On a small screen one of them has to do.
    let most = (room.area.height / 4).max(1).min(banners.len() as u16);
    lines(banners, room.take(most), frame);
    lines(vec![services(screen, paint, room.area.width)], room.take(1), frame);
    if room.area.height > 4 {
        lines(vec![keys(screen, paint)], room.take_last(), frame);
    }

    let sections =
        [rollout(screen, paint), drains(screen, paint), sick(screen, paint), happened(screen)];
    let wanted: u16 = sections.iter().map(|it| it.height().min(LEAST)).sum();
    let rollout_height = sections[0].height();
    let pools = screen.pools();
    let shown = &pools[screen.skipped.min(pools.len())..];
    let roomy = room.area.height >= cards::HEIGHT + rollout_height.max(LEAST) + wanted;
    // Side by side only if that is all of them.
    if roomy && cards::across(room.area.width) >= pools.len() {
        cards::cards(screen, paint, shown, room.take(cards::HEIGHT), frame);
    } else {
        let rows = (shown.len() as u16).saturating_add(1);
        let height = room.area.height;
        let most = height.saturating_sub(wanted).max(height / 2 + 1);
        if rows <= most || most < 4 {
            cards::table(paint, shown, room.take(rows.min(most)), frame);
        } else {
            cards::table(paint, shown, room.take(most - 1), frame);
            let below = format!("{} more: down", rows - (most - 1));
            lines(vec![Line::styled(below, paint.dim())], room.take(1), frame);
        }
    }
    let count = sections.len();
    for (place, section) in sections.into_iter().enumerate() {
        // The last one gets what is left.
        let wanted = if place + 1 == count { room.area.height } else { section.height() };
        section.draw(paint, room.take(wanted), frame);
    }
    if screen.help {
        help(paint, frame);
    }
}

/// A title and what it is about.
struct Section {
    title: String,
    lines: Vec<Line<'static>>,
}

impl Section {
    fn height(&self) -> u16 {
        if self.lines.is_empty() { 0 } else { self.lines.len() as u16 + 1 }
    }

    fn draw(self, paint: Paint, area: Rect, frame: &mut Frame<'_>) {
        if self.lines.is_empty() || area.height < LEAST {
            return;
        }
        let rest = "─".repeat(usize::from(area.width));
        let title = Line::styled(format!("─ {} {rest}", self.title), paint.dim());
        let lines = std::iter::once(title).chain(self.lines).collect::<Vec<_>>();
        frame.render_widget(Paragraph::new(lines), area);
    }
}

fn head(screen: &Screen, paint: Paint) -> Line<'static> {
    let status = &screen.picture.status;
    let mut spans = vec![
        Span::styled(format!("crossfade {}", status.version), paint.bold()),
        Span::raw(format!("  {}  revision {}", status.phase, status.revision)),
    ];
    if screen.paused {
        spans.insert(1, Span::styled(" paused ", paint.turned()));
    }
    if let Some(file) = &status.config.file {
        spans.push(Span::styled(format!("  {file}"), paint.dim()));
    }
    Line::from(spans)
}

/// What somebody should know, the most urgent first.
fn banners(screen: &Screen, paint: Paint) -> Vec<Line<'static>> {
    let mut banners = Vec::new();
    if let Some((began, why)) = &screen.trouble {
        let since = began.elapsed().as_secs();
        let text = format!("this is of {since} s ago, trying again: {why}");
        banners.push(Line::styled(text, paint.colour(Some(Color::Red))));
    }
    let said = status::head(&screen.picture.status);
    // Its first line is our own head.
    let said = said.lines().skip(1);
    banners.extend(said.map(|it| Line::styled(it.to_owned(), paint.colour(Some(Color::Yellow)))));
    banners
}

/// The names of all services; the one that is shown can be seen however many there are.
fn services(screen: &Screen, paint: Paint, width: u16) -> Line<'static> {
    let services = &screen.picture.status.services;
    if services.is_empty() {
        return Line::styled("there are no services", paint.dim());
    }
    let at = screen.at();
    let mut spans = Vec::with_capacity(services.len());
    let mut before = 0;
    for (place, service) in services.iter().enumerate() {
        let is_moving = service.rollout.as_ref().is_some_and(|it| it.ended.is_none());
        let name = format!(" {}{} ", service.name, if is_moving { "*" } else { "" });
        let style = if place == at { paint.turned() } else { Style::new() };
        let span = Span::styled(name, style);
        before += if place <= at { span.width() } else { 0 };
        spans.push(span);
    }
    // Leave out from the left what keeps the one that is shown off the screen.
    let mut first = 0;
    while before > usize::from(width) && first < at {
        before -= spans[first].width();
        first += 1;
    }
    Line::from(spans.split_off(first))
}

fn keys(screen: &Screen, paint: Paint) -> Line<'static> {
    let text = format!(
        "q quit  ? help  tab service  s sort ({})  p {}",
        screen.sort.as_str(),
        if screen.paused { "go on" } else { "pause" }
    );
    Line::styled(text, paint.dim())
}

fn rollout(screen: &Screen, paint: Paint) -> Section {
    let service = screen.service().map(|it| &*it.name);
    let found = screen.picture.rollouts.iter().find(|it| it["service"].as_str() == service);
    let Some(rollout) = found else { return Section { title: String::new(), lines: Vec::new() } };
    let text = |key: &str| rollout[key].as_str().unwrap_or_default();
    let is_over = rollout["ended"].is_string();
    let kind = if is_over { "last rollout" } else { "rollout" };
    let title = format!(
        "{kind} {}: {} from {} to {}",
        text("id"),
        text("strategy"),
        text("from"),
        text("to")
    );
    let colour = match text("state") {
        "running" | "promoted" => Color::Green,
        "aborted" | "failed" => Color::Red,
        _ => Color::Yellow,
    };
    let mut lines = vec![Line::styled(text("summary").to_owned(), paint.colour(Some(colour)))];
    if !is_over {
        lines.push(steps(rollout, paint));
        let said = rollout::said(rollout);
        lines.extend(said.lines().map(|line| Line::raw(line.to_owned())));
    }
    Section { title, lines }
}

/// Its stages, from the one before the current one on.
fn steps(rollout: &Value, paint: Paint) -> Line<'static> {
    let stages = rollout["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let at = stages.iter().position(|stage| stage["state"] == "current").unwrap_or_default();
    let first = at.saturating_sub(1);
    let mut spans = Vec::new();
    if first > 0 {
        spans.push(Span::styled(format!("{first} done ── "), paint.dim()));
    }
    for (place, stage) in stages.iter().enumerate().skip(first) {
        if place > first {
            spans.push(Span::styled(" ── ", paint.dim()));
        }
        let (mark, style) = match stage["state"].as_str().unwrap_or_default() {
            "done" => ("●", paint.colour(Some(Color::Green))),
            "current" => ("◉", paint.bold()),
            _ => ("○", paint.dim()),
        };
        spans.push(Span::styled(format!("{mark} {}", rollout::stage(stage)), style));
    }
    Line::from(spans)
}

fn drains(screen: &Screen, paint: Paint) -> Section {
    let drains = &screen.picture.drains;
    let open: u64 = drains.iter().map(|drain| drain.in_flight()).sum();
    let mut shown: Vec<_> = drains.iter().collect();
    shown.sort_by_key(|drain| std::cmp::Reverse(drain.in_flight()));
    let colour = paint.colour(Some(Color::Yellow));
    Section {
        title: format!("draining: {} backends, {open} in flight", drains.len()),
        lines: shown.iter().take(DRAINS).map(|it| Line::styled(it.line(), colour)).collect(),
    }
}

/// Backends of the service that get no requests though nobody has asked for that.
fn sick(screen: &Screen, paint: Paint) -> Section {
    let sick: Vec<Line<'static>> = screen
        .pools()
        .into_iter()
        .flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)))
        .filter(|(_, backend)| backend.state == "active" && (backend.ejected || !backend.healthy))
        .map(|(pool, backend)| {
            let why = if backend.ejected { "ejected" } else { "unhealthy" };
            let text = format!("{} {}: {why}", pool.name, backend.address);
            Line::styled(text, paint.colour(Some(Color::Red)))
        })
        .collect();
    let title = format!("not well: {} backends", sick.len());
    Section { title, lines: sick.into_iter().take(SICK).collect() }
}

fn happened(screen: &Screen) -> Section {
    let lines = screen.picture.happened.iter().map(|it| Line::raw(it.line()));
    Section { title: "what happened".to_owned(), lines: lines.collect() }
}

fn help(paint: Paint, frame: &mut Frame<'_>) {
    let width = HELP.iter().map(|line| line.len()).max().unwrap_or_default() as u16 + 4;
    let all = frame.area();
    let area = Rect {
        x: all.width.saturating_sub(width) / 2,
        y: all.height.saturating_sub(HELP.len() as u16 + 2) / 2,
        width,
        height: HELP.len() as u16 + 2,
    }
    .intersection(all);
    let block = Block::bordered().border_style(paint.dim()).title(" keys ");
    let lines: Vec<Line<'_>> = HELP.iter().map(|line| Line::raw(format!(" {line}"))).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::look::{Picture, tests::picture},
        *,
    };
    use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};
    use serde_json::json;

    fn pool(name: &str, weight: u64, rate: f64, errors: Option<f64>, p99: Option<f64>) -> Value {
        let backend = |healthy: bool| {
            json!({ "address": "127.0.0.1:1", "weight": 1, "healthy": healthy, "state": "active",
                "in_flight": 3 })
        };
        json!({ "name": name, "version": format!("v-{name}"), "weight": weight, "in_flight": 37,
            "effective_weight": weight as f64 / 100.0, "state": "active", "rate": rate,
            "error_rate": errors, "p50": p99.map(|p99| p99 / 4.0), "p95": p99.map(|p99| p99 / 2.0),
            "p99": p99, "backends": [backend(true), backend(false)] })
    }

    fn everything() -> Picture {
        let pools = [
            pool("blue", 75, 123.45, Some(0.001), Some(0.04)),
            pool("green", 25, 41.0, Some(0.0123), Some(0.08)),
            pool("old", 0, 0.0, None, None),
        ];
        let short = json!({ "id": "shop-1", "ended": null, "summary": "running" });
        let status = json!({ "version": "9.8.7", "phase": "ready", "revision": 42, "drift": 2,
            "config": {"file": "/etc/c.yaml", "loaded_at": null, "error": null},
            "needs_restart": [], "listeners": [], "services": [
                { "name": "shop", "pools": pools, "rollout": short },
                { "name": "api", "pools": [pool("one", 100, 1.0, None, None)], "rollout": null }] });
        let version = |requests: u64| {
            json!({ "requests": requests, "errors": 1, "error_rate": 0.25, "slow": 0, "rate": 1.0,
                "p50": 0.01, "p95": 0.02, "p99": 0.03 })
        };
        let stage = |share: f64, state: &str| json!({ "kind": "step", "step": 1, "share": share, "state": state });
        let rollout = json!({ "id": "shop-1", "service": "shop", "strategy": "canary", "from": "blue",
            "to": "green", "state": "waiting", "step": 2, "steps": 4, "share": 0.25, "ended": null,
            "summary": "waiting in step 2 of 4", "stable": version(4000), "canary": version(1000),
            "stages": [stage(0.05, "done"), stage(0.25, "current"), stage(1.0, "next")],
            "evidence": {"against": 12.5, "needed": 100.0, "errors": 12.0, "latency": 0.5, "guards": 0.0},
            "lacks": [{"text": "200 requests", "eta_seconds": 40.0}],
            "gates": [{"name": "checkout", "answer": "pass", "said": null}], "routes": [],
            "notices": [{ "number": 1, "at": "2026-01-02T18:41:05Z", "event": "started", "step": 0,
                "share": 0.0, "by": {"author": "ci", "cause": "release 2"}, "why": null }] });
        let drain = |id: &str, open: u64| {
            json!({ "id": id, "service": "api", "pool": "one", "backend": "127.0.0.1:7", "cut": 0,
                "since": "2026-01-02T18:41:05Z", "deadline": "2026-01-02T18:42:05Z",
                "in_flight": {"request": open, "stream": 1, "tunnel": 0} })
        };
        let drains = json!([drain("d-1", 1), drain("d-2", 6)]);
        let revision = json!({ "revision": 41, "at": "2026-01-02T18:40:00Z", "author": "ann",
            "source": "api", "cause": "a reason", "rollout": null, "changed": [] });
        picture(&status, &drains, vec![rollout], &[revision])
    }

    /// A screen with something of everything.
    pub(in crate::cli::top) fn shop() -> Screen {
        Screen::new(everything(), None, true)
    }

    fn buffer(screen: &Screen, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(screen, frame)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
        let buffer = buffer(screen, width, height);
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).collect()
    }

    #[track_caller]
    fn assert_says(lines: &[String], words: &[&str]) {
        for word in words {
            assert!(lines.iter().any(|line| line.contains(word)), "{word}\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn a_large_screen_says_everything_side_by_side() {
        let lines = drawn(&shop(), 120, 40);
        assert_says(
            &lines,
            &[
                "crossfade 9.8.7  ready  revision 42  /etc/c.yaml",
                "drift: 2 values differ from the file",
                " shop*  api ",
                "75 (75.0%)",
                "1/2",
                "123.5",
                "1.2%",
                "20.0ms 40.0ms",
                "rollout shop-1: canary from blue to green",
                "waiting in step 2 of 4",
                "● 5.0% ── ◉ 25.0% ── ○ 100%",
                "evidence against green: 12.50, it is cut at 100",
                "missing: 200 requests (about 40s)",
                "gate checkout: pass",
                "draining: 2 backends, 9 in flight",
                "not well: 3 backends",
                "green 127.0.0.1:1: unhealthy",
                "d-2 api/one 127.0.0.1:7: 6 requests, 1 streams, 0 tunnels, until 18:42:05, 0 cut",
                "18:41:05 shop: started, step 0 of 4, 0% on green, by ci: release 2",
                "18:40:00 revision 41 by ann: a reason",
                "q quit  ? help",
            ],
        );
        let titles = lines.iter().find(|line| line.contains(" blue ")).unwrap();
        assert!(titles.contains(" green v-green") && titles.contains(" old "), "{titles}");
        let last: Vec<&String> = lines.iter().filter(|line| line.contains("d-")).collect();
        assert!(last[0].contains("d-2"), "the fullest first");
    }

    #[test]
    fn a_small_screen_says_what_matters() {
        let lines = drawn(&shop(), 40, 10);
        assert_says(
            &lines,
            &["crossfade 9.8.7", "shop", "POOL", "blue", "75.0%", "1.2%", "rollout shop-1"],
        );
    }

    #[test]
    fn of_many_pools_none_is_left_out_in_silence() {
        let mut screen = shop();
        let pools = (0..12).map(|at| pool(&format!("pool-{at}"), 1, 1.0, None, None));
        let pools: Vec<Value> = pools.collect();
        screen.picture.status.services[0].pools = serde_json::from_value(pools.into()).unwrap();
        assert_says(&drawn(&screen, 120, 50), &["POOL", "v-pool-0 ", "v-pool-11 "]);
        let small = drawn(&screen, 120, 24);
        assert_says(&small, &["POOL", "v-pool-0 ", "more: down"]);
        assert!(!small.iter().any(|line| line.contains("v-pool-11 ")));
        screen.skipped = 11;
        let last = drawn(&screen, 120, 24);
        assert_says(&last, &["POOL", "v-pool-11 "]);
        assert!(!last.iter().any(|line| line.contains("more: down")));
    }

    #[test]
    fn no_size_is_too_small_or_too_large() {
        let mut screen = shop();
        for help in [false, true] {
            screen.help = help;
            for width in [1, 2, 3, 10, 23, 24, 40, 47, 48, 80, 200, 500] {
                for height in [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 24, 25, 26, 30, 60] {
                    drawn(&screen, width, height);
                }
            }
        }
        screen.skipped = 99;
        drawn(&screen, 80, 24);
        screen.picture.status.services.clear();
        assert_says(&drawn(&screen, 80, 24), &["there are no services"]);
    }

    #[test]
    fn a_terminal_that_disappears_is_survived() {
        buffer(&shop(), 0, 0);
    }

    #[test]
    fn the_service_that_is_shown_is_seen_among_many() {
        let mut screen = shop();
        let mut names = Vec::new();
        for number in 0..200 {
            let name = format!("service-{number}");
            screen.picture.status.services.push(
                serde_json::from_value(json!({ "name": name, "pools": [], "rollout": null }))
                    .unwrap(),
            );
            names.push(name);
        }
        for name in names {
            screen.service = Some(name.clone());
            assert_says(&drawn(&screen, 40, 10), &[&format!(" {name} ")]);
        }
    }

    #[test]
    fn without_colours_there_are_none() {
        let mut screen = shop();
        screen.trouble = Some((std::time::Instant::now(), "cannot reach it".to_owned()));
        let coloured = |screen: &Screen| {
            let buffer = buffer(screen, 120, 40);
            buffer
                .content
                .iter()
                .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
                .count()
        };
        assert!(coloured(&screen) > 0);
        screen.colours = false;
        assert_eq!(coloured(&screen), 0);
        assert_says(&drawn(&screen, 120, 40), &["trying again: cannot reach it"]);
    }

    #[test]
    fn nothing_that_is_told_steers_the_terminal() {
        let mut screen = shop();
        let evil = "a\x1b[2Jb\x07\r\n\u{9b}c";
        screen.picture.status.services[0].name = evil.to_owned();
        screen.picture.status.services[0].pools[0].name = evil.to_owned();
        screen.picture.rollouts[0]["service"] = evil.into();
        screen.picture.rollouts[0]["summary"] = evil.into();
        screen.trouble = Some((std::time::Instant::now(), evil.to_owned()));
        for (width, height) in [(120, 40), (40, 10)] {
            let buffer = buffer(&screen, width, height);
            assert!(buffer.content.iter().all(|cell| !cell.symbol().contains(char::is_control)));
        }
    }

    #[test]
    fn pause_help_and_an_end_are_seen() {
        let mut screen = shop();
        screen.paused = true;
        screen.help = true;
        assert_says(
            &drawn(&screen, 80, 24),
            &[" paused ", "another service", "times of day are UTC"],
        );
        screen.help = false;
        screen.picture.rollouts[0]["ended"] = "2026-01-02T18:41:05Z".into();
        let lines = drawn(&screen, 120, 40);
        assert_says(&lines, &["last rollout shop-1", "p go on"]);
        assert!(!lines.iter().any(|line| line.contains("evidence")));
    }
}
