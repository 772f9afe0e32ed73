//! The process dies at any write, truncation or sync, and what was not synced is lost, all of it or a part: what
//! was answered is there after the restart, in order, once, and nothing is half there.
//!
//! By default a few lives with dice that are the same each time; `CROSSFADE_CRASHES=N` plays N rounds with each
//! way of losing, and `CROSSFADE_SEED` throws other dice.

use crate::stage::{Answer, SHOP, Served, Shim, Stage};
use std::collections::BTreeMap;

/// Lives of one state; each ends with a crash.
const LIVES: u64 = 6;

/// Changes of a life that does not end before.
const CHANGES: u64 = 8;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What must be there.
#[derive(Default)]
struct Model {
    /// Causes of what was answered, by revision.
    answered: BTreeMap<u64, String>,
    /// Asked for, and not answered.
    open: Option<Asked>,
    next: u64,
}

/// A change that can be asked for again, and is made once.
#[derive(Clone)]
struct Asked {
    cause: String,
    path: String,
    body: String,
    key: String,
}

impl Model {
    fn ask(&mut self, served: &Served, asked: Asked) -> Option<Answer> {
        self.open = Some(asked.clone());
        let Asked { path, body, key, cause } = asked;
        let answer = served.try_ask("POST", &path, &body, &[("Idempotency-Key", &key)])?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let revision = answer.body["revision"].as_u64().unwrap();
        let before = self.answered.insert(revision, cause.clone());
        assert!(before.is_none_or(|before| before == cause), "revision {revision} twice");
        self.open = None;
        Some(answer)
    }

    /// A change that always is one: the pools take turns, drained and not.
    fn new_change(&mut self) -> Asked {
        self.next += 1;
        let n = self.next;
        let verb = if n % 2 == 1 { "drain" } else { "undrain" };
        let cause = format!("change {n} {}", "x".repeat(900));
        Asked {
            path: format!("/v1/services/shop/pools/green/{verb}"),
            body: format!("{{\"cause\": \"{cause}\"}}"),
            key: format!("key-{n}"),
            cause,
        }
    }

    /// After a restart.
    fn check(&mut self, served: &Served, what: &str) {
        // Who got no answer asks again: it is made now, or was before, and never twice.
        if let Some(open) = self.open.clone() {
            self.ask(served, open).expect("an answer");
        }
        let mut seen = BTreeMap::new();
        let mut before = (1 << 53) - 1;
        loop {
            let page = served.get(&format!("/v1/revisions?limit=1000&before={before}"));
            let page = page.as_array().unwrap();
            for it in page {
                let number = it["revision"].as_u64().unwrap();
                assert!(number < before, "{what}: order");
                before = number;
                seen.insert(number, it["cause"].as_str().map(str::to_owned));
            }
            if page.is_empty() {
                break;
            }
        }
        let newest = *seen.keys().next_back().unwrap();
        assert_eq!(seen.len() as u64, newest, "{what}: none is missing");
        assert_eq!(served.get("/v1/status")["revision"], newest, "{what}");
        for (number, cause) in &self.answered {
            assert_eq!(seen[number].as_ref(), Some(cause), "{what}: revision {number}");
        }
        // The first is the file's; every other was asked for.
        assert_eq!(self.answered.len() as u64, newest - 1, "{what}: nothing that nobody asked for");
        // Changes take turns: what is in force is the newest.
        let drained = &served.get("/v1/config")["services"]["shop"]["pools"]["green"]["drained"];
        assert_eq!(drained.as_bool().unwrap_or(false), newest % 2 == 0, "{what}: {newest}");
        let whole = served.get(&format!("/v1/revisions/{newest}"));
        assert_eq!(whole["config"], served.get("/v1/config"), "{what}");
    }
}

fn lives(lose: &str, seed: u64) {
    let stage = Stage::new(SHOP);
    let mut dice = Dice(seed);
    let mut model = Model::default();
    for life in 0..LIVES {
        let die_at = 1 + dice.roll(if life == 0 { 60 } else { 160 });
        let shim = Shim { die_at, lose, seed: dice.roll(1 << 30) };
        let what = format!("lose {lose}, seed {seed}, life {life}, died at {die_at}");
        // It may die while it starts.
        if let Some(served) = stage.start_on(&shim) {
            for _ in 0..CHANGES {
                let change = model.new_change();
                if model.ask(&served, change).is_none() {
                    break;
                }
            }
            served.kill();
        }
        let served = stage.start();
        model.check(&served, &what);
        served.kill();
    }
}

fn rounds() -> u64 {
    std::env::var("CROSSFADE_CRASHES").ok().and_then(|it| it.parse().ok()).unwrap_or(2)
}

fn seed() -> u64 {
    std::env::var("CROSSFADE_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(1)
}

#[test]
fn nothing_that_was_answered_is_lost_when_all_unsynced_writes_are() {
    (0..rounds()).for_each(|round| lives("all", seed() + round));
}

#[test]
fn nor_when_some_of_them_are_and_some_are_torn() {
    (0..rounds()).for_each(|round| lives("some", seed() + 1000 + round));
}

#[test]
fn nor_when_only_the_process_ends() {
    (0..rounds()).for_each(|round| lives("none", seed() + 2000 + round));
}

/// Every operation of a start and a few changes, one after the other. Only where it is asked for: it takes minutes.
#[test]
fn each_operation_may_be_the_last() {
    let Ok(step) = std::env::var("CROSSFADE_CRASHES") else { return };
    let step = if step.parse::<u64>().is_ok_and(|it| it >= 20) { 1 } else { 7 };
    for lose in ["all", "some", "none"] {
        let mut die_at = 1;
        loop {
            let stage = Stage::new(SHOP);
            let mut model = Model::default();
            let shim = Shim { die_at, lose, seed: die_at };
            let mut died = true;
            if let Some(served) = stage.start_on(&shim) {
                let asked = (0..3).all(|_| {
                    let change = model.new_change();
                    model.ask(&served, change).is_some()
                });
                died = !asked;
                served.kill();
            }
            let served = stage.start();
            model.check(&served, &format!("lose {lose}, died at {die_at}"));
            served.kill();
            if !died {
                break;
            }
            die_at += step;
        }
    }
}
