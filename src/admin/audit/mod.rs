//! Who changed what, who tried to, and who was not let in: kept in memory for `GET /v1/audit`, and line by line in
//! a file if there is one. Nothing here waits for the disk.

mod attempt;
mod entry;
mod file;
mod kept;
mod page;

pub(super) use attempt::Attempt;
pub(super) use entry::{Entry, Event, SCHEMA};
pub(super) use page::{__path_audit, audit};

use super::access::{Buckets, Source};
use crate::{
    rollout::{Notice, Rollout},
    spec::AuditFile,
};
use file::Writer;
use kept::Kept;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::broadcast;

/// What of those who are not let in is kept: so many at once, then one each so often. Who knocks all the time must
/// not push out what others did.
const DENIED_BURST: u32 = 10;
const DENIED_EACH: Duration = Duration::from_secs(60);
/// The same of all of them together.
const ALL_DENIED_BURST: u32 = 200;
const ALL_DENIED_EACH: Duration = Duration::from_secs(1);

/// Ids for what is still recorded in a process from which another has taken over: the answers to requests that were
/// under way.
const RESERVED: u64 = 10_000;

/// Entries that who follows them may be behind.
const BEHIND: usize = 1024;

/// What a process has recorded.
#[derive(Deserialize)]
struct Left {
    last_id: u64,
    entries: Vec<Entry>,
}

/// The audit log.
pub struct Audit {
    state: Mutex<State>,
    writer: Option<Writer>,
    file: Option<PathBuf>,
    news: broadcast::Sender<Arc<Entry>>,
}

struct State {
    kept: Kept,
    /// By reason.
    refusals: BTreeMap<String, u64>,
    /// Of those who were not let in, since the last one that was kept.
    skipped: u64,
    denied: Buckets<Source>,
    all_denied: Buckets<()>,
}

impl Audit {
    /// It begins with what another process has left, else with what was written in the file before.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(file: Option<&AuditFile>, left: Option<&Value>) -> io::Result<Arc<Self>> {
        let mut kept = Kept::default();
        // That of another version is one that cannot be read.
        let left = left.and_then(|left| Left::deserialize(left).ok());
        let has_left = left.is_some();
        if let Some(Left { last_id, entries }) = left {
            entries.into_iter().for_each(|entry| kept.restore(entry));
            kept.skip_to(last_id.saturating_add(RESERVED));
        }
        let writer = file.map(|file| {
            let written = file::tail(file)?;
            if has_left {
                kept.skip_to(written.iter().map(|entry| entry.id).max().unwrap_or_default());
            } else {
                written.into_iter().for_each(|entry| kept.restore(entry));
            }
            Writer::open(file)
        });
        let state = State {
            kept,
            refusals: BTreeMap::new(),
            skipped: 0,
            denied: Buckets::new(DENIED_BURST, DENIED_EACH),
            all_denied: Buckets::new(ALL_DENIED_BURST, ALL_DENIED_EACH),
        };
        Ok(Arc::new(Self {
            state: Mutex::new(state),
            writer: writer.transpose()?,
            file: file.map(|file| file.path.clone()),
            news: broadcast::channel(BEHIND).0,
        }))
    }

    /// What [`Audit::open`] of the process that takes over begins with. What comes later is in the file alone.
    pub fn leave(&self) -> Value {
        let state = self.state();
        let entries = state.kept.all();
        let entries: Vec<&Entry> = entries.iter().map(|entry| &**entry).collect();
        json!({ "last_id": state.kept.last_id(), "entries": entries })
    }

    /// Every entry from now on, and the id of the last one before.
    pub(super) fn follow(&self) -> (broadcast::Receiver<Arc<Entry>>, u64) {
        let state = self.state();
        (self.news.subscribe(), state.kept.last_id())
    }

    /// Something that happened to a rollout.
    pub(super) fn happened(&self, rollout: &Rollout, notice: &Notice) {
        let by = notice.by.as_ref();
        self.record(Entry {
            author: Some(by.map_or_else(|| "rollout".to_owned(), |by| by.author.to_string())),
            by: by.is_none().then(|| "rollout".to_owned()),
            service: Some(rollout.service().to_string()),
            rollout: Some(rollout.id().to_string()),
            number: Some(notice.number),
            cause: by.and_then(|by| by.cause.clone()),
            detail: notice.why.as_ref().map(|why| why.text.clone()),
            at: super::time(notice.at),
            ..Entry::new(notice.event.into())
        });
    }

    /// A change that was made or not.
    pub(super) fn record(&self, entry: Entry) {
        let mut state = self.state();
        state.count(&entry);
        self.keep(&mut state, entry);
    }

    /// Somebody who was not let in.
    pub(super) fn record_denied(&self, source: Source, mut entry: Entry, now: Instant) {
        let mut state = self.state();
        state.count(&entry);
        if state.denied.wait(source, now).is_some() || state.all_denied.wait((), now).is_some() {
            state.skipped += 1;
            return;
        }
        state.denied.count(source, now);
        state.all_denied.count((), now);
        entry.skipped = std::mem::take(&mut state.skipped);
        self.keep(&mut state, entry);
    }

    /// In the order of the ids, in memory and in the file alike.
    fn keep(&self, state: &mut State, entry: Entry) {
        let entry = state.kept.add(entry);
        if let Some(writer) = &self.writer
            && let Ok(mut line) = serde_json::to_string(&*entry)
        {
            line.push('\n');
            writer.write(line);
        }
        // Nobody may follow.
        let _ = self.news.send(entry);
    }

    /// The newest first, of those before the id `before`.
    pub(super) fn newest(&self, limit: usize, before: Option<u64>) -> Vec<Arc<Entry>> {
        self.state().kept.newest(limit, before)
    }

    /// Where it is written.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Entries that could not be written to the file.
    pub(super) fn lost(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::lost)
    }

    /// What was refused, by reason.
    pub(super) fn refusals(&self) -> BTreeMap<String, u64> {
        self.state().refusals.clone()
    }

    /// Returns when all that was recorded is written, or could not be, or it takes too long. Blocks.
    pub fn flush(&self, patience: Duration) {
        if let Some(writer) = &self.writer {
            writer.flush(patience);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, entry: &Entry) {
        if let Some(reason) = &entry.reason {
            *self.refusals.entry(reason.clone()).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(event: Event, path: &str) -> Entry {
        Entry { path: Some(path.into()), reason: Some("forbidden".into()), ..Entry::new(event) }
    }

    #[test]
    fn who_knocks_all_the_time_pushes_nothing_out() {
        let (audit, now) = (Audit::open(None, None).unwrap(), Instant::now());
        audit.record(entry(Event::ChangeMade, "/made"));
        for source in 0..500 {
            for _ in 0..100 {
                audit.record_denied(Source::User(source), entry(Event::AccessDenied, "/no"), now);
            }
        }
        let kept = audit.newest(usize::MAX, None);
        assert_eq!(kept.len(), 1 + ALL_DENIED_BURST as usize);
        assert_eq!(kept.last().unwrap().path.as_deref(), Some("/made"));
        let one = kept.iter().filter(|it| it.skipped > 0).count();
        assert!(one > 0, "what was skipped is counted");
        let later = now + ALL_DENIED_EACH;
        audit.record_denied(Source::User(1000), entry(Event::AccessDenied, "/no"), later);
        let newest = audit.newest(1, None);
        let skipped: u64 = audit.newest(usize::MAX, None).iter().map(|it| it.skipped).sum();
        assert!(newest[0].skipped > 0);
        assert_eq!(skipped, 50_000 - u64::from(ALL_DENIED_BURST));
        assert_eq!(audit.refusals()["forbidden"], 50_002);
    }

    #[test]
    fn two_processes_that_write_beside_each_other_give_no_id_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let file = AuditFile { path, max_bytes: 1 << 20, keep: 1 };
        let old = Audit::open(Some(&file), None).unwrap();
        let ids = |audit: &Audit| -> Vec<u64> {
            audit.newest(usize::MAX, None).iter().map(|entry| entry.id).collect()
        };
        old.record(entry(Event::ChangeMade, "/1"));
        old.record(entry(Event::AccessDenied, "/2"));
        let new = Audit::open(Some(&file), Some(&old.leave())).unwrap();
        old.record(entry(Event::ChangeRefused, "/3"));
        new.record(entry(Event::ChangeMade, "/4"));
        old.record(entry(Event::ChangeRefused, "/5"));
        let first = 2 + RESERVED + 1;
        assert_eq!((ids(&old), ids(&new)), (vec![4, 3, 2, 1], vec![first, 2, 1]));
        for audit in [&old, &new] {
            audit.flush(Duration::from_secs(20));
        }
        // Whoever begins with the file, in the order of the ids, or with what another version has left.
        let strange = json!({ "last_id": "many" });
        for left in [None, Some(&strange)] {
            assert_eq!(ids(&Audit::open(Some(&file), left).unwrap()), [first, 4, 3, 2, 1]);
        }
        let alone = Audit::open(None, Some(&new.leave())).unwrap();
        assert_eq!(ids(&alone), [first, 2, 1]);
    }

    #[test]
    fn an_attempt_is_recorded_once_whatever_becomes_of_it() {
        use crate::admin::problem::Problem;
        use axum::response::IntoResponse;
        let audit = Audit::open(None, None).unwrap();
        let attempt =
            |path: &str| Attempt::new(audit.clone(), entry(Event::ChangeUnanswered, path));
        let refused = Problem::conflict("no").into_response();
        let first = attempt("/1");
        first.answered(&refused);
        first.answered(&refused);
        drop(first);
        attempt("/2").answered(&().into_response());
        let left = attempt("/3");
        let in_a_task = left.clone();
        drop(left);
        assert_eq!(audit.newest(9, None).len(), 1, "somebody still follows it");
        drop(in_a_task);
        let told: Vec<_> =
            audit.newest(9, None).iter().map(|it| (it.path.clone().unwrap(), it.event)).collect();
        let expected =
            [("/3".into(), Event::ChangeUnanswered), ("/1".into(), Event::ChangeRefused)];
        assert_eq!(told, expected);
        Attempt::default().answered(&refused);
    }
}
