//! What is written down of a request while it is in flight. Whoever knows something of it adds that; when nobody
//! holds the note any more it is handed over, for the access log and for the spans of a trace.

use super::{
    connection::ClientConnection,
    core::Core,
    decide::Assignment,
    fields::{Known, Lines, first},
    head::{self, Facts, Head, Version},
    record::Recorder,
    trace::{self, Parent},
};
use crate::{
    live::{
        Account, Answered, Attempt, Fault, Labels, LivePool, Moment, Protocol, Reason, Trace,
        Wanted,
    },
    routing::{Observed, RequestView},
    spec::{AccessLog, Name, Share},
};
use http::HeaderMap;
use rand::{Rng, RngExt};
use slab::Slab;
use std::{cell::RefCell, rc::Rc, sync::Arc};

/// A request that is written down, for those who may have something to add.
pub(super) struct Note {
    core: Rc<Core>,
    key: usize,
}

/// Those of a core.
#[derive(Default)]
pub(super) struct Notes(RefCell<Slab<Entry>>);

struct Entry {
    account: Account,
    /// Who may have something to add.
    holders: usize,
    /// Whether it gets a line, and how many of these may wait.
    log: Option<(Share, u32)>,
    spans: Option<u32>,
    tells: Tells,
    /// What its client says of a trace does not pass as it came.
    replaces: bool,
}

/// What backends are told of the trace.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// What the client has said.
    AsItCame,
    /// The attempt that they answer, and the client's `tracestate` if it may pass.
    Attempt { keeps_state: bool },
}

/// The line that a backend gets.
pub(super) struct Told {
    pub(super) parent: [u8; trace::LENGTH],
    /// The client's `tracestate` goes along.
    pub(super) keeps_state: bool,
}

/// One attempt of a request that is written down.
pub(super) struct NotedAttempt {
    note: Note,
    nth: usize,
}

/// A request that was decided.
pub(super) struct Decided<'a, L> {
    pub(super) connection: &'a ClientConnection,
    pub(super) head: &'a Head<'a, L>,
    /// Of its own making, where the client has sent none.
    pub(super) request_id: &'a [u8],
    pub(super) assignment: &'a Assignment,
    pub(super) at: Moment,
}

impl<L: Lines> Decided<'_, L> {
    /// It is written down, if requests of its route are.
    #[cold]
    #[inline(never)]
    pub(super) fn note(&self, facts: &mut Facts, recorder: &mut Recorder) {
        let Some(observed) = &self.assignment.policy.observed else { return };
        let id = if facts.has_request_id { None } else { Some(self.request_id) };
        let note = match recorder.note() {
            Some(known) => {
                known.has_waited(id, self.at);
                known.clone()
            }
            None => {
                let entry = Entry::new(self.connection, Some(self.head), observed, id, recorder);
                // Nobody wants to know of it: it belongs to a trace that is not recorded.
                if !entry.is_wanted() && entry.tells == Tells::AsItCame {
                    return;
                }
                recorder.attach(Note::begin(recorder.core(), entry)).clone()
            }
        };
        let passes = note.with(|entry| {
            entry.account.chosen_by = Some(self.assignment.chosen_by);
            !entry.replaces
        });
        note.attempt(self.assignment, false, self.at);
        facts.passes &= passes.unwrap_or(true);
    }
}

/// The request goes to no backend, or not yet; it is written down if any are.
#[cold]
#[inline(never)]
pub(super) fn note_refused<L: Lines>(
    connection: &ClientConnection,
    head: Option<&Head<'_, L>>,
    recorder: &mut Recorder,
) {
    if recorder.note().is_some() {
        return;
    }
    let observed = connection.core.live.published.read(|snapshot| {
        let observed = snapshot.table.observed.clone()?;
        let route = head.and_then(|head| {
            let host = head::host(head).ok()?;
            let client = connection.client.address(head.lines, &connection.listener.spec);
            let Head { method, path, query, lines, .. } = *head;
            snapshot.table.find(&RequestView::new(method, host, path, query, lines, client))
        });
        Some(match route {
            Some(route) => {
                Arc::new(Observed { route: Some(route.name.clone()), ..(*observed).clone() })
            }
            None => observed,
        })
    });
    if let Some(observed) = observed {
        let entry = Entry::new(connection, head, &observed, None, recorder);
        recorder.attach(Note::begin(recorder.core(), entry));
    }
}

/// The same for one of which nothing can be said but, perhaps, its method.
#[cold]
pub(super) fn note_unreadable(
    connection: &ClientConnection,
    method: Option<&str>,
    recorder: &mut Recorder,
) {
    note_refused::<HeaderMap>(connection, None, recorder);
    if let (Some(method), Some(note)) = (method, recorder.note()) {
        note.tell(|account| account.set_texts([method.as_bytes(), b"", b"", b"", b"", b""]));
    }
}

/// What is kept for those to come, when none is left of many.
const KEPT: usize = 1024;

impl Notes {
    /// Somebody lets go of it; whoever does so last gets it.
    fn release(&self, key: usize) -> Option<Entry> {
        let mut entries = self.0.borrow_mut();
        let entry = entries.get_mut(key)?;
        entry.holders -= 1;
        if entry.holders > 0 {
            return None;
        }
        let entry = entries.try_remove(key);
        if entries.is_empty() && entries.capacity() > KEPT {
            *entries = Slab::new();
        }
        entry
    }
}

impl Entry {
    /// `id`: what its backend is told as its request id, if the client has sent none.
    fn new<L: Lines>(
        connection: &ClientConnection,
        head: Option<&Head<'_, L>>,
        observed: &Observed,
        id: Option<&[u8]>,
        recorder: &Recorder,
    ) -> Self {
        let mut account = Account::default();
        account.begin(recorder.began());
        account.client = Some(connection.client.peer);
        account.is_secure = connection.client.proto == "https";
        let (mut tells, mut replaces) = (Tells::AsItCame, false);
        if let Some(head) = head {
            account.client = Some(connection.client.address(head.lines, &connection.listener.spec));
            account.protocol = match head.version {
                Version::Http10 => Protocol::Http10,
                Version::Http11 => Protocol::Http11,
                Version::Http2 => Protocol::Http2,
            };
            let host = head.authority.map(str::as_bytes).or_else(|| first(head.lines, Known::Host));
            let own = id.or_else(|| first(head.lines, Known::XRequestId)).unwrap_or_default();
            account.set_texts([
                head.method.as_bytes(),
                host.unwrap_or_default(),
                head.path.as_bytes(),
                head.query.unwrap_or_default().as_bytes(),
                own,
                observed.route.as_deref().unwrap_or_default().as_bytes(),
            ]);
            if let Some(log) = &observed.access_log {
                show(head.lines, log, &mut account.headers);
            }
            let is_told = trace::is_told(head.lines);
            let parent = if is_told { trace::parent(head.lines) } else { None };
            (account.trace, tells) = trace_of(connection, head.lines, observed, parent, id);
            replaces = is_told && tells != Tells::AsItCame;
        }
        let is_sampled = account.trace.is_some_and(|trace| trace.is_sampled);
        let tracing = observed.tracing.as_ref().filter(|_| is_sampled);
        Self {
            account,
            holders: 1,
            log: observed.access_log.as_ref().map(|log| (log.sample, log.queue)),
            spans: tracing.map(|tracing| tracing.queue),
            tells,
            replaces,
        }
    }

    fn is_wanted(&self) -> bool {
        self.log.is_some() || self.spans.is_some()
    }

    /// It is over.
    fn hand_over(self, core: &Core) {
        let is_drawn = |share: Share| {
            share == Share::ALL
                || core.dice.borrow_mut().random_range(0..Share::ALL.millionths())
                    < share.millionths()
        };
        let has_failed = self.account.has_failed();
        let log = self.log.filter(|(share, _)| has_failed || is_drawn(*share));
        let wanted = Wanted { log: log.map(|(_, most)| most), spans: self.spans };
        core.live.journal.hand_over(core.index, self.account, wanted);
    }
}

impl Note {
    fn begin(core: &Rc<Core>, entry: Entry) -> Self {
        let key = core.notes.0.borrow_mut().insert(entry);
        Self { core: core.clone(), key }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.core.notes.0.borrow_mut().get_mut(self.key).map(f)
    }

    fn tell(&self, f: impl FnOnce(&mut Account)) {
        self.with(|entry| f(&mut entry.account));
    }

    /// It was decided later than it began; `id` is what its backend is told as its request id, if the client has sent
    /// none.
    fn has_waited(&self, id: Option<&[u8]>, decided: Moment) {
        self.tell(|account| {
            account.decided = decided;
            if let Some(id) = id {
                account.set_request_id(id);
            }
        });
    }

    /// A try to get it answered.
    pub(super) fn attempt(&self, assignment: &Assignment, is_rescue: bool, now: Moment) {
        let flight = &assignment.ticket.flight;
        let nth = self.with(|entry| {
            let needs_span = entry.tells != Tells::AsItCame || entry.spans.is_some();
            let attempts = &mut entry.account.attempts;
            attempts.push(Attempt {
                labels: flight.upstream.labels.clone(),
                began: now,
                connect: None,
                head: None,
                ended: None,
                failure: None,
                is_rescue,
                span: if needs_span { self.core.span() } else { 0 },
            });
            attempts.len() - 1
        });
        flight.attend(NotedAttempt { note: self.clone(), nth: nth.unwrap_or_default() });
    }

    /// What the backend of its last attempt is told of its trace; `None`: what its client has said.
    pub(super) fn told(&self) -> Option<Told> {
        self.with(|entry| {
            let Tells::Attempt { keeps_state } = entry.tells else { return None };
            let trace = entry.account.trace?;
            let span = entry.account.last()?.span;
            Some(Told { parent: trace::line(trace.id, span, trace.is_sampled), keeps_state })
        })?
    }

    pub(super) fn failed(&self, fault: Fault, reason: Reason) {
        self.tell(|account| account.failure = Some((fault, reason)));
    }

    /// It is counted under the name of this pool, though none of its backends was asked.
    pub(super) fn of_pool(&self, pool: &LivePool) {
        self.tell(|account| {
            if account.last().is_none() {
                account.pool = Some(Arc::new(Labels {
                    service: pool.service.clone(),
                    pool: pool.name.clone(),
                    version: pool.version.clone(),
                    backend: Box::default(),
                }));
            }
        });
    }

    pub(super) fn set_bytes(&self, incoming: u64, outgoing: u64) {
        self.tell(|account| (account.bytes_in, account.bytes_out) = (incoming, outgoing));
    }

    /// More of the client's body has come.
    pub(super) fn add_in(&self, bytes: u64) {
        self.tell(|account| account.bytes_in += bytes);
    }

    pub(super) fn set_out(&self, bytes: u64) {
        self.tell(|account| account.bytes_out = bytes);
    }

    pub(super) fn ended(&self, now: Moment, status: u16) {
        self.tell(|account| (account.status, account.ended) = (status, now));
    }

    /// It went on as a tunnel, which has ended.
    pub(super) fn tunnel_ended(&self, now: Moment, incoming: u64, outgoing: u64) {
        self.tell(|account| {
            (account.is_tunnel, account.ended) = (true, now);
            (account.bytes_in, account.bytes_out) = (incoming, outgoing);
        });
    }
}

impl Clone for Note {
    fn clone(&self) -> Self {
        self.with(|entry| entry.holders += 1);
        Self { core: self.core.clone(), key: self.key }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(entry) = self.core.notes.release(self.key) {
            entry.hand_over(&self.core);
        }
    }
}

impl NotedAttempt {
    pub(super) fn note(&self) -> &Note {
        &self.note
    }

    fn tell(&self, f: impl FnOnce(&mut Attempt)) {
        self.note.tell(|account| {
            if let Some(attempt) = account.attempts.get_mut(self.nth) {
                f(attempt);
            }
        });
    }

    /// A connection was opened, in so many nanoseconds.
    pub(super) fn connected(&self, taken: u64) {
        self.tell(|attempt| attempt.connect = Some(taken));
    }

    pub(super) fn answered(&self, at: Moment, sent: Moment, status: u16) {
        self.tell(|attempt| attempt.head = Some(Answered { sent, at, status }));
    }

    pub(super) fn failed(&self, now: Moment, reason: Reason) {
        self.tell(|attempt| {
            attempt.ended = Some(now);
            attempt.failure = Some(reason);
        });
    }
}

/// The fields that the access log shows.
fn show(lines: &impl Lines, log: &AccessLog, shown: &mut Vec<(Name, Box<[u8]>)>) {
    for name in log.fields.iter().filter_map(|field| field.header()) {
        let all: Vec<&[u8]> = lines.values(name).collect();
        if !all.is_empty() {
            let mut value = all.join(&b", "[..]);
            value.truncate(LONGEST_FIELD);
            shown.push((name.clone(), value.into()));
        }
    }
}

/// Of a field that is shown.
const LONGEST_FIELD: usize = 1024;

/// Whose trace it belongs to, and what backends are told of it.
fn trace_of(
    connection: &ClientConnection,
    lines: &impl Lines,
    observed: &Observed,
    parent: Option<Parent>,
    id: Option<&[u8]>,
) -> (Option<Trace>, Tells) {
    let core = &connection.core;
    // What its backend is told by the key of the listener.
    let begun = || trace::id_of(id?).filter(|_| connection.client.traces);
    let Some(tracing) = &observed.tracing else {
        let known = parent.map(|parent| parent.trace).or_else(begun);
        let trace = known.map(|id| Trace { id, parent: None, span: 0, is_sampled: false });
        return (trace, Tells::AsItCame);
    };
    match parent {
        // Nothing is to be said of it.
        Some(Parent { trace: id, is_sampled: false, span }) => {
            let trace = Trace { id, parent: Some(span), span: 0, is_sampled: false };
            (Some(trace), Tells::AsItCame)
        }
        Some(Parent { trace: id, span, is_sampled: true }) => {
            let trace = Trace { id, parent: Some(span), span: core.span(), is_sampled: true };
            (Some(trace), Tells::Attempt { keeps_state: trace::has_good_state(lines) })
        }
        None => {
            let id = id.and_then(trace::id_of).unwrap_or_else(|| core.nonce().max(1));
            let is_sampled = trace::is_drawn(id, tracing.sample);
            let trace = Trace { id, parent: None, span: core.span(), is_sampled };
            (Some(trace), Tells::Attempt { keeps_state: false })
        }
    }
}

impl Core {
    /// A number for a span, which is never 0.
    fn span(&self) -> u64 {
        self.dice.borrow_mut().next_u64().max(1)
    }
}
