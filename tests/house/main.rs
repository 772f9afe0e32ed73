//! The rules of the house as tests: which room may name which, and what may not appear at all.
//! The map in src/lib.rs says why; when a room is added, add it to [`ROOMS`].

mod source;

use source::{Mention, Source};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A room of src/ and the rooms below it that it may name.
struct Room {
    name: &'static str,
    may_name: &'static [&'static str],
    forbidden: &'static [&'static [&'static str]],
}

const ROOMS: &[Room] = &[
    Room { name: "spec", may_name: &[], forbidden: &[ENGINES, WORLD] },
    Room { name: "routing", may_name: &["spec"], forbidden: &[ENGINES, WORLD] },
    Room { name: "rollout", may_name: &["spec"], forbidden: &[ENGINES, WORLD] },
    Room { name: "live", may_name: &["spec", "routing"], forbidden: &[ENGINES_AND_SOCKETS] },
    Room { name: "net", may_name: &["spec"], forbidden: &[] },
    Room { name: "system", may_name: &["spec", "net"], forbidden: &[] },
    Room { name: "config", may_name: &["spec"], forbidden: &[] },
    Room { name: "proxy", may_name: &["spec", "routing", "live", "net"], forbidden: &[] },
    Room {
        name: "control",
        may_name: &["spec", "routing", "rollout", "live", "net"],
        forbidden: &[],
    },
    Room { name: "accounts", may_name: &["spec", "routing", "live", "net"], forbidden: &[] },
    Room { name: "acme", may_name: &["spec", "live", "net", "control"], forbidden: &[] },
    Room {
        name: "upgrade",
        may_name: &["spec", "rollout", "config", "live", "net", "control"],
        forbidden: &[],
    },
    Room {
        name: "admin",
        may_name: &["spec", "routing", "rollout", "live", "net", "config", "control", "upgrade"],
        forbidden: &[],
    },
    Room {
        name: "process",
        may_name: &[
            "spec", "routing", "rollout", "live", "net", "config", "proxy", "control", "accounts",
            "acme",
        ],
        forbidden: &[],
    },
    Room { name: "cli", may_name: EVERYTHING, forbidden: &[] },
    Room { name: "lib", may_name: EVERYTHING, forbidden: &[] },
    Room { name: "main", may_name: EVERYTHING, forbidden: &[] },
];

const EVERYTHING: &[&str] = &["*"];

/// Rooms that talk to a person on the terminal.
const PRINTING: &[&str] = &["cli", "main"];

const ENGINES: &[&str] = &["tokio", "hyper", "hyper_util", "axum", "reqwest", "tower", "socket2"];

/// `live` may carry bound listeners from who binds them to who accepts (std::net::TcpListener), no more.
const ENGINES_AND_SOCKETS: &[&str] = &[
    "hyper",
    "hyper_util",
    "axum",
    "reqwest",
    "socket2",
    "tokio::net",
    "tokio::fs",
    "tokio::io",
    "std::fs",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os::unix::net",
];

/// What makes the same call give another answer: clocks, dice, shared memory, the machine; and logging.
const WORLD: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "jiff::Timestamp::now",
    "jiff::Zoned::now",
    "rand::rng",
    "rand::random",
    "rand::random_bool",
    "rand::random_iter",
    "rand::random_range",
    "rand::random_ratio",
    "rand::fill",
    "rand::make_rng",
    "rand::rngs::ThreadRng",
    "rand::rngs::SysRng",
    "getrandom",
    "std::sync::atomic",
    "core::sync::atomic",
    "arc_swap",
    "tracing",
    "tracing_subscriber",
    "metrics",
    "notify",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os::unix::net",
];

const PRINTS: &[&str] = &["println", "print", "eprintln", "eprint"];
const LEFTOVERS: &[&str] = &["todo", "unimplemented", "dbg"];
/// Spelled so that this file does not report itself.
const REMINDERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Written once for both HTTP engines: what a request is, where it goes, what becomes of its fields, what is
/// tried again, who is to blame, what is recorded.
const ENGINE_NEUTRAL: &[&str] = &[
    "booking",
    "decide",
    "failure",
    "fields",
    "framing",
    "head",
    "headers",
    "note",
    "record",
    "retry",
    "tries",
    "websocket",
    "withheld",
    "witness",
];
const HTTP_ENGINES: &[&str] = &[
    "hyper",
    "hyper_util",
    "http_body",
    "http_body_util",
    "tokio",
    "crate::proxy::http1",
    "crate::proxy::hyper",
];

const LONGEST_FILE: usize = 700;
/// The one file that may know arc-swap.
const ARC_SWAP_HOME: &str = "live/published.rs";

#[test]
fn rooms_name_only_rooms_below_them() {
    assert_none(over_sources(arrows));
}

#[test]
fn rooms_keep_clear_of_what_is_not_theirs() {
    assert_none(over_sources(forbidden));
}

#[test]
fn the_decision_knows_no_engine() {
    let mut seen = 0;
    assert_none(over_sources(|file, source| {
        let name = file.strip_prefix("proxy/").and_then(|file| file.strip_suffix(".rs"));
        if !name.is_some_and(|name| ENGINE_NEUTRAL.contains(&name)) {
            return Vec::new();
        }
        seen += 1;
        let is_engine = |mention: &&Mention| HTTP_ENGINES.iter().any(|it| reaches(mention, it));
        let mentions = source.paths.iter().filter(is_engine);
        mentions.map(|it| format!("src/{file}:{}: `{}`", it.line, it.text())).collect()
    }));
    assert_eq!(seen, ENGINE_NEUTRAL.len(), "a file is not where this test looks");
}

#[test]
fn only_the_command_line_prints_and_nothing_is_left_over() {
    assert_none(over_sources(stray_macros));
}

#[test]
fn there_is_one_arc_swap() {
    let mut swaps = Vec::new();
    let mut offences = over_sources(|file, source| {
        swaps.extend(arc_swaps(source).into_iter().map(|line| format!("src/{file}:{line}")));
        arc_swap_guests(file, source)
    });
    if swaps.len() > 1 {
        offences.push(format!("more than one ArcSwap: {}", swaps.join(", ")));
    }
    if swaps.is_empty() && root().join("src").join(ARC_SWAP_HOME).exists() {
        offences.push(format!("no ArcSwap found in src/{ARC_SWAP_HOME}: is this test blind?"));
    }
    assert_none(offences);
}

#[test]
fn no_file_is_longer_than_one_idea() {
    assert_none(over_texts("src", too_long));
}

#[test]
fn there_are_no_reminders_in_the_code() {
    let offences = ["src", "tests", "benches"]
        .into_iter()
        .flat_map(|folder| {
            over_texts(folder, |file, text| reminders(&format!("{folder}/{file}"), text))
        })
        .collect();
    assert_none(offences);
}

#[test]
fn the_table_of_rooms_has_no_circle() {
    for (place, room) in ROOMS.iter().enumerate() {
        for below in room.may_name.iter().filter(|&&name| name != "*") {
            let found = ROOMS.iter().position(|other| other.name == *below);
            assert!(
                found.is_some_and(|found| found < place),
                "{} may name {below}, which must stand above it in the table",
                room.name
            );
        }
    }
}

/// Mentions of rooms that this file's room may not name.
fn arrows(file: &str, source: &Source) -> Vec<String> {
    let name = room_name(file);
    let Some(room) = room(name) else {
        return vec![format!("src/{file}: `{name}` is no room of the plan; add it to ROOMS")];
    };
    if room.may_name == EVERYTHING {
        return Vec::new();
    }
    source.paths.iter().filter_map(|mention| arrow(file, room, mention)).collect()
}

fn arrow(file: &str, room: &Room, mention: &Mention) -> Option<String> {
    let (first, rest) = mention.path.split_first()?;
    if first != "crate" {
        return None;
    }
    let place = format!("src/{file}:{}: `{}`", mention.line, mention.text());
    match rest.first() {
        None => Some(format!("{place} hides which room it means; name the room")),
        Some(target) if *target == room.name => None,
        Some(target) if room.may_name.contains(&target.as_str()) => None,
        Some(_) => Some(format!("{place}: {} may name only {:?}", room.name, room.may_name)),
    }
}

/// Mentions of crates and parts of std that the room must not touch.
fn forbidden(file: &str, source: &Source) -> Vec<String> {
    let Some(room) = room(room_name(file)) else { return Vec::new() };
    let prefixes = || room.forbidden.iter().copied().flatten();
    source
        .paths
        .iter()
        .filter(|mention| prefixes().any(|prefix| reaches(mention, prefix)))
        .map(|mention| {
            let text = mention.text();
            format!("src/{file}:{}: {} must not touch `{text}`", mention.line, room.name)
        })
        .collect()
}

/// Whether a mention is at or below `forbidden`, or a glob that brings it in.
fn reaches(mention: &Mention, forbidden: &str) -> bool {
    let forbidden: Vec<&str> = forbidden.split("::").collect();
    let common = mention.path.iter().zip(&forbidden).take_while(|(a, b)| a == *b).count();
    common == forbidden.len() || (mention.glob && common == mention.path.len())
}

fn stray_macros(file: &str, source: &Source) -> Vec<String> {
    let prints = PRINTING.contains(&room_name(file));
    source
        .macros
        .iter()
        .filter(|(name, _)| {
            LEFTOVERS.contains(&name.as_str()) || (!prints && PRINTS.contains(&name.as_str()))
        })
        .map(|(name, line)| format!("src/{file}:{line}: `{name}!`"))
        .collect()
}

/// Lines that spell the type of an ArcSwap.
fn arc_swaps(source: &Source) -> Vec<usize> {
    source
        .generics
        .iter()
        .filter(|(name, _)| name.starts_with("ArcSwap"))
        .map(|(_, line)| *line)
        .collect()
}

/// Mentions of arc-swap outside its home, and of its cache anywhere: a cached snapshot would never
/// let quiesce end.
fn arc_swap_guests(file: &str, source: &Source) -> Vec<String> {
    source
        .paths
        .iter()
        .filter(|mention| mention.path[0] == "arc_swap")
        .filter(|mention| file != ARC_SWAP_HOME || reaches(mention, "arc_swap::Cache"))
        .map(|mention| format!("src/{file}:{}: `{}`", mention.line, mention.text()))
        .collect()
}

fn too_long(file: &str, text: &str) -> Vec<String> {
    match text.lines().count() {
        lines if lines > LONGEST_FILE => {
            vec![format!("src/{file}: {lines} lines, more than {LONGEST_FILE}")]
        }
        _ => Vec::new(),
    }
}

fn reminders(file: &str, text: &str) -> Vec<String> {
    let holds = |line: &str| {
        line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
            .any(|word| REMINDERS.contains(&word))
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| holds(line))
        .map(|(index, line)| format!("{file}:{}: {}", index + 1, line.trim()))
        .collect()
}

fn room(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

/// The first part of a file's path under src/: `routing` of `routing/split.rs`, `main` of `main.rs`.
fn room_name(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The module that a file under src/ is: `["crate", "routing", "split"]` of `routing/split.rs`.
fn module(file: &str) -> Vec<&str> {
    let names = file.strip_suffix(".rs").unwrap_or(file).split('/');
    let inner = names.filter(|name| !matches!(*name, "mod" | "lib" | "main"));
    std::iter::once("crate").chain(inner).collect()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn over_sources(mut check: impl FnMut(&str, &Source) -> Vec<String>) -> Vec<String> {
    assert!(root().join("src/lib.rs").exists(), "no sources found: this test would be blind");
    over_texts("src", |file, text| match Source::read(&module(file), text) {
        Ok(source) => check(file, &source),
        Err(error) => vec![format!("src/{file}: cannot be read: {error}")],
    })
}

/// Runs a check over every Rust file of a folder, which is given by its path inside the folder.
fn over_texts(folder: &str, mut check: impl FnMut(&str, &str) -> Vec<String>) -> Vec<String> {
    let folder = root().join(folder);
    let mut offences = Vec::new();
    for path in rust_files(&folder) {
        let text = fs::read_to_string(&path).expect("a source file is readable text");
        let file = path.strip_prefix(&folder).expect("found in this folder");
        offences.extend(check(&file.to_string_lossy(), &text));
    }
    offences
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("a listed entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn assert_none(offences: Vec<String>) {
    assert!(offences.is_empty(), "\n  {}\n", offences.join("\n  "));
}

/// The rules, on code that breaks them: a rule that cannot fail protects nothing.
mod the_rules_fail_on {
    use super::*;

    fn read(file: &str, text: &str) -> Source {
        Source::read(&module(file), text).expect("a snippet of Rust")
    }

    fn arrows_in(file: &str, text: &str) -> Vec<String> {
        arrows(file, &read(file, text))
    }

    fn forbidden_in(file: &str, text: &str) -> Vec<String> {
        forbidden(file, &read(file, text))
    }

    #[test]
    fn an_arrow_upwards_however_it_is_spelled() {
        for text in [
            "use crate::live::Pool;",
            "use crate::{spec, live::pool::Pool};",
            "use crate::{spec::{Name, Pool}, live};",
            "pub use crate::live::{self as l, Pool};",
            "use crate::{\n    // why\n    spec,\n    live,\n};",
            "use super::super::live::Pool;",
            "use super::live as l;",
            "fn f(pool: &crate::live::Pool) {}",
            "fn f() -> Option<crate::live::Pool> { None }",
            "fn f() { let x = <crate::live::Pool as Default>::default(); }",
            "impl Trait for crate::live::Pool {}",
            "fn f() { log!(crate::live::name()) }",
            "macro_rules! m { () => { $crate::live::name() }; }",
            "mod inner { use super::super::super::live::Pool; }",
            "#[cfg(test)] mod tests { use crate::live::Pool; }",
            "use crate::r#live::Pool;",
        ] {
            let file =
                if text.contains("super::live as") { "routing.rs" } else { "routing/split.rs" };
            assert!(!arrows_in(file, text).is_empty(), "{text}");
        }
    }

    #[test]
    fn rooms_of_one_floor_that_name_each_other() {
        assert_eq!(arrows_in("routing/mod.rs", "use crate::rollout::Step;").len(), 1);
        assert_eq!(arrows_in("proxy/mod.rs", "use crate::control::Handle;").len(), 1);
        assert_eq!(arrows_in("control/task.rs", "use crate::proxy::Worker;").len(), 1);
        assert_eq!(arrows_in("control/task.rs", "use crate::config::file::File;").len(), 1);
        assert_eq!(arrows_in("config/watch.rs", "use crate::control::Command;").len(), 1);
        assert_eq!(arrows_in("net/dial.rs", "use crate::live::Pool;").len(), 1);
        assert_eq!(arrows_in("admin/api.rs", "use crate::proxy::Worker;").len(), 1);
        assert_eq!(arrows_in("live/mod.rs", "use crate::cli::Args;").len(), 1);
    }

    #[test]
    fn ways_to_hide_a_room() {
        assert_eq!(arrows_in("spec/mod.rs", "use crate::*;").len(), 1);
        assert_eq!(
            arrows_in("spec/mod.rs", "use crate as house; fn f(p: house::live::P) {}").len(),
            2
        );
        assert_eq!(arrows_in("spec/mod.rs", "use super::*;").len(), 1);
        assert_eq!(arrows_in("spec/mod.rs", "const V: &str = crate::VERSION;").len(), 1);
        assert_eq!(arrows_in("attic/mod.rs", "").len(), 1, "a room that is not in the plan");
    }

    #[test]
    fn nothing_that_is_allowed() {
        for (file, text) in [
            ("spec/mod.rs", "mod address; pub use address::Address; use self::address as a;"),
            ("spec/address.rs", "use super::*; use super::service::Pool; use crate::spec::Name;"),
            ("routing/split.rs", "use crate::{routing::table, spec::Weight}; use super::table::T;"),
            (
                "routing/split.rs",
                "// use crate::live::Pool;\nconst A: &str = \"crate::live::Pool\";",
            ),
            ("routing/split.rs", "/// [`crate::live::Pool`]\nfn live() { let live = self.live; }"),
            ("routing/split.rs", "mod tests { use super::*; use super::super::table; }"),
            ("admin/api.rs", "use crate::{config, control, live, rollout, routing, spec};"),
            ("cli/serve.rs", "use crate::{admin, proxy, VERSION};"),
            ("lib.rs", "pub mod spec; pub use spec::Spec; pub use crate::proxy::run;"),
            ("main.rs", "fn main() { crossfade::cli::run() }"),
        ] {
            let offences = [arrows_in(file, text), forbidden_in(file, text)].concat();
            assert!(offences.is_empty(), "{file}: {text}: {offences:?}");
        }
    }

    #[test]
    fn clocks_dice_atomics_and_engines_on_the_pure_floors() {
        for text in [
            "use tokio::sync::mpsc;",
            "use std::time::Instant;",
            "use std::{sync::Arc, time::{Duration, SystemTime}};",
            "fn f() { let now = std::time::Instant::now(); }",
            "fn f() -> ::std::time::Instant { loop {} }",
            "fn f() { match x { 1 => ::std::process::exit(1), _ => {} } }",
            "use std::time::*;",
            "use std::sync::atomic::{self, Ordering};",
            "use rand::rng;",
            "fn f() -> f64 { rand::random() }",
            "fn f() { tracing::info!(\"hello\"); }",
            "use std::net::{IpAddr, TcpStream};",
            "use std::{fs, io};",
            "mod tests { use std::fs; }",
        ] {
            for file in ["spec/mod.rs", "routing/split.rs", "rollout/machine.rs"] {
                assert!(!forbidden_in(file, text).is_empty(), "{file}: {text}");
            }
        }
    }

    #[test]
    fn what_comes_in_by_another_name() {
        for text in [
            "use std::time; fn f() { time::Instant::now(); }",
            "use std::time as t; fn f() { t::Instant::now(); }",
            "use std::sync; fn f(a: &sync::atomic::AtomicU64) {}",
            "use std as s; use s::time::Instant;",
        ] {
            assert_eq!(forbidden_in("routing/split.rs", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn sockets_in_live_but_not_its_channels() {
        assert_eq!(forbidden_in("live/pool.rs", "use tokio::net::TcpStream;").len(), 1);
        assert_eq!(forbidden_in("live/pool.rs", "use std::fs::File;").len(), 1);
        assert_eq!(forbidden_in("live/pool.rs", "use tokio::sync::Notify;").len(), 0);
        assert_eq!(forbidden_in("live/pool.rs", "use std::sync::atomic::AtomicU64;").len(), 0);
    }

    #[test]
    fn seeded_dice_only_where_they_are_an_argument() {
        let text = "use rand::{Rng, SeedableRng, rngs::SmallRng}; use std::time::Duration;";
        assert_eq!(forbidden_in("routing/balance.rs", text).len(), 0);
        assert_eq!(forbidden_in("routing/balance.rs", "use rand::rngs::ThreadRng;").len(), 1);
    }

    #[test]
    fn prints_and_leftovers() {
        let stray = |file, text| stray_macros(file, &read(file, text)).len();
        assert_eq!(stray("admin/api.rs", "fn f() { println!(\"x\"); eprintln!(\"y\") }"), 2);
        assert_eq!(stray("cli/status.rs", "fn f() { println!(\"x\"); }"), 0);
        assert_eq!(stray("main.rs", "fn main() { eprintln!(\"x\"); }"), 0);
        assert_eq!(stray("cli/status.rs", "fn f() { dbg!(1); todo!() }"), 2);
        assert_eq!(stray("admin/api.rs", "fn f() { std::println!(\"x\"); }"), 1);
        assert_eq!(stray("admin/api.rs", "fn f() { writeln!(f, \"println!()\"); a != b; }"), 0);
    }

    #[test]
    fn a_second_arc_swap() {
        let text = "use arc_swap::ArcSwap; struct P(ArcSwap<S>); struct Q { q: ArcSwapOption<S> }";
        assert_eq!(arc_swaps(&read("live/published.rs", text)).len(), 2);
        assert_eq!(arc_swap_guests("live/published.rs", &read("live/snapshot.rs", text)).len(), 0);
        assert_eq!(arc_swap_guests("proxy/worker.rs", &read("proxy/worker.rs", text)).len(), 2);
        let cache = "use arc_swap::{ArcSwap, Cache};";
        assert_eq!(arc_swap_guests("live/published.rs", &read("live/snapshot.rs", cache)).len(), 1);
    }

    #[test]
    fn long_files_and_reminders() {
        assert_eq!(too_long("a.rs", &"\n".repeat(LONGEST_FILE)).len(), 0);
        assert_eq!(too_long("a.rs", &"\n".repeat(LONGEST_FILE + 1)).len(), 1);
        let reminder =
            format!("// {}: later\nlet todo_list = 1; // {}(me)\n", REMINDERS[0], REMINDERS[1]);
        assert_eq!(reminders("a.rs", &reminder).len(), 2);
    }
}
