//! Compares what a case expects with what happened.

use crate::{
    backend::Log,
    case::{ANY, End, Expectation, Reply, Rest},
    client::Outcome,
    support::Proxy,
    text::show,
    wire::{Field, Message},
};
use crossfade::{
    live::{Fault, PoolTotals, Reason},
    spec::Engine,
};

/// What the proxy adds to every request; a case names them only where it is about them.
const ADDED: [&str; 4] =
    ["x-request-id", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];

pub fn client(engine: Engine, expected: &Expectation, outcome: &Outcome) -> Vec<String> {
    let mut complaints = Vec::new();
    if expected.end == End::Gone {
        return complaints;
    }
    if outcome.end != Some(expected.end) || !are_replies(engine, expected, outcome) {
        complaints.push(format!(
            "the client should get {}, but got {}",
            expected.in_words(),
            in_words(outcome)
        ));
    }
    if outcome.rest != *expected.tunnel.as_deref().unwrap_or_default() {
        complaints.push(format!("the client also got {:?}", show(&outcome.rest)));
    }
    if engine == Engine::Native {
        complaints.extend(persistence(expected, outcome));
        if expected.closes_at_once() && outcome.reset {
            complaints.push("the client's last answer was followed by a reset".into());
        }
    }
    let final_replies = outcome.replies.iter().filter(|reply| reply.status() >= 200);
    if final_replies.into_iter().any(|reply| reply.values("date").count() != 1) {
        complaints.push("a response without a date, or with two (RFC 9110 section 6.6.1)".into());
    }
    complaints.extend(whose_answers(expected, outcome));
    complaints
}

fn are_replies(engine: Engine, expected: &Expectation, outcome: &Outcome) -> bool {
    let mut replies = outcome.replies.iter().peekable();
    let have_come = expected.replies.iter().all(|expected| {
        replies.next_if(|reply| is_reply(engine, expected, reply)).is_some() || expected.optional
    });
    have_come && replies.next().is_none()
}

fn is_reply(engine: Engine, expected: &Reply, reply: &Message) -> bool {
    let error = reply.value("x-crossfade-error");
    // What hyper's parser refuses it answers itself, with the status alone.
    let is_silent = engine == Engine::Hyper && error.is_none();
    reply.status() == expected.status
        && (is_silent || error == expected.error.as_deref().map(str::as_bytes))
        && expected
            .field
            .as_ref()
            .is_none_or(|(name, value)| reply.value(name) == Some(value.as_bytes()))
        && expected
            .version
            .as_deref()
            .is_none_or(|version| reply.value("x-crossfade-version") == Some(version.as_bytes()))
}

/// Who closes a connection for what was sent on it says so, and who does not does not (RFC 9112 section
/// 9.6). An idle one may be closed without a word.
fn persistence(expected: &Expectation, outcome: &Outcome) -> Option<String> {
    let last = outcome.replies.last().filter(|last| last.status() >= 200)?;
    let says_close = last.values("connection").any(|value| value.eq_ignore_ascii_case(b"close"));
    let should = expected.closes_at_once();
    match outcome.end {
        Some(End::Open) if says_close => {
            Some("the connection is open, but it was said to close".into())
        }
        Some(End::Closed) if should && !says_close => {
            Some("the connection was closed, but the response did not say so".into())
        }
        _ => None,
    }
}

/// Each answer of the backend names its request: the n-th must be the n-th one's.
fn whose_answers(expected: &Expectation, outcome: &Outcome) -> Vec<String> {
    let asked = expected.messages.iter().filter(|m| !m.start.starts_with(b"HEAD "));
    let answers = outcome
        .replies
        .iter()
        .filter(|reply| reply.status() == 200 && !reply.body.is_empty())
        .map(|reply| &reply.body[..]);
    asked
        .zip(answers)
        .filter(|(asked, answer)| asked.target() != *answer)
        .map(|(asked, answer)| {
            format!("{} got the answer for {}", show(&asked.start), show(answer))
        })
        .collect()
}

pub fn backend(engine: Engine, expected: &Expectation, log: &Log) -> Vec<String> {
    let mut complaints: Vec<String> =
        log.wrong.iter().map(|why| format!("the backend got what is not HTTP: {why}")).collect();
    if log.messages.len() != expected.messages.len() {
        let got: Vec<_> = log.messages.iter().map(Message::in_words).collect();
        complaints.push(format!(
            "the backend should get {} whole messages, but got {}: {got:?}",
            expected.messages.len(),
            got.len(),
        ));
    } else {
        let pairs = expected.messages.iter().zip(&log.messages);
        complaints.extend(pairs.filter_map(|(expected, got)| message(engine, expected, got)));
    }
    let is_rest = match expected.rest {
        Rest::Nothing => log.cut.is_empty(),
        Rest::Cut => log.cut.len() == 1,
        Rest::MaybeCut => log.cut.len() <= 1,
    };
    if !is_rest {
        let cut: Vec<_> = log.cut.iter().map(|bytes| show(bytes)).collect();
        complaints
            .push(format!("{:?} of a message should reach the backend: {cut:?}", expected.rest));
    }
    complaints
}

fn message(engine: Engine, expected: &Message, got: &Message) -> Option<String> {
    let mut fields = got.fields.clone();
    let mut missing = Vec::new();
    for name in ADDED {
        if expected.value(name).is_some() {
            continue;
        }
        let values: Vec<_> = got.values(name).map(<[u8]>::to_vec).collect();
        let is_right = match (name, &values[..]) {
            ("x-request-id", [id]) => !id.is_empty(),
            ("x-forwarded-for", [address]) => address == b"127.0.0.1",
            ("x-forwarded-proto", [proto]) => proto == b"http",
            ("x-forwarded-host", [host]) => got.value("host") == Some(&host[..]),
            // There was none to tell of.
            ("x-forwarded-host", []) => expected.value("host").is_none_or(|host| host == b"*"),
            _ => false,
        };
        if !is_right {
            missing.push(name);
        }
        fields.retain(|field| !field.is(name));
    }
    if expected.fields.iter().any(|field| field.is(ANY)) {
        fields.retain(|field| expected.value(&String::from_utf8_lossy(&field.name)).is_some());
    }
    let wanted: Vec<_> = expected.fields.iter().filter(|field| !field.is(ANY)).cloned().collect();
    let is_same = expected.start == got.start
        && are_same(&sorted(&wanted), &sorted(&fields))
        // hyper's table of fields has an order of its own, and small letters.
        && (engine == Engine::Hyper || are_alike(&end_to_end(&wanted), &end_to_end(&fields)))
        && expected.body == got.body
        && (matches!(&expected.trailers[..], [any] if any.is(ANY))
            || are_same(&expected.trailers, &got.trailers))
        && missing.is_empty();
    (!is_same).then(|| {
        let added = match &missing[..] {
            [] => String::new(),
            missing => format!(" (wrong: {missing:?})"),
        };
        format!(
            "the backend should get\n    {}\n  but got{added}\n    {}",
            expected.in_words(),
            got.in_words()
        )
    })
}

/// By name; the order of lines of one name has a meaning.
fn sorted(fields: &[Field]) -> Vec<Field> {
    let mut fields = fields.to_vec();
    fields.sort_by_key(|field| field.name.to_ascii_lowercase());
    fields
}

/// Without those that the proxy writes anew, wherever it likes.
fn end_to_end(fields: &[Field]) -> Vec<Field> {
    let anew = ["host", "connection", "te", "upgrade", "content-length", "transfer-encoding"];
    let is_anew = |field: &Field| anew.iter().chain(&ADDED).any(|name| field.is(name));
    fields.iter().filter(|field| !is_anew(field)).cloned().collect()
}

fn are_same(expected: &[Field], got: &[Field]) -> bool {
    let is_same = |(e, g): (&Field, &Field)| {
        e.name.eq_ignore_ascii_case(&g.name) && (e.value == b"*" || e.value == g.value)
    };
    expected.len() == got.len() && expected.iter().zip(got).all(is_same)
}

/// In order, and spelled as expected where that is in capitals.
fn are_alike(expected: &[Field], got: &[Field]) -> bool {
    let is_spelled =
        |(e, g): (&Field, &Field)| e.name == g.name || !e.name.iter().any(u8::is_ascii_uppercase);
    are_same(expected, got) && expected.iter().zip(got).all(is_spelled)
}

/// Failures by reason, over all pools.
pub struct Counts([u64; Reason::ALL.len()]);

impl Counts {
    pub fn of(proxy: &Proxy) -> Self {
        let pools = proxy.live.pools();
        let unrouted = std::iter::once(&proxy.live.unrouted);
        let totals: Vec<Box<PoolTotals>> =
            pools.iter().chain(unrouted).map(|pool| pool.stats.totals()).collect();
        let count = |reason: Reason| {
            let of_fault = |fault: Fault| {
                totals.iter().map(|t| t.failures[fault as usize][reason as usize]).sum::<u64>()
            };
            Fault::ALL.into_iter().map(of_fault).sum()
        };
        Self(Reason::ALL.map(count))
    }
}

/// Each refusal is counted once, under the reason that the client was told; that a client has left may be
/// counted or not.
pub fn counts(
    engine: Engine,
    expected: &Expectation,
    before: Counts,
    proxy: &Proxy,
) -> Vec<String> {
    // What hyper's parser refuses, and whom nobody answers any more, is not counted this way.
    if engine == Engine::Hyper || expected.end == End::Gone {
        return Vec::new();
    }
    let after = Counts::of(proxy);
    let told = |reason: Reason, optional_too: bool| {
        let is_told = |reply: &&Reply| {
            reply.error.as_deref() == Some(reason.as_str()) && (optional_too || !reply.optional)
        };
        expected.replies.iter().filter(is_told).count() as u64
    };
    let counted = Reason::ALL.into_iter().zip(after.0.iter().zip(before.0));
    counted
        .map(|(reason, (after, before))| (reason, after - before))
        .filter(|(reason, _)| *reason != Reason::ClientClosed)
        .filter(|(reason, count)| !(told(*reason, false)..=told(*reason, true)).contains(count))
        .map(|(reason, count)| format!("{} was counted {count} times", reason.as_str()))
        .collect()
}

impl Expectation {
    /// The last reply is the connection's last and says so.
    pub fn closes_at_once(&self) -> bool {
        let says_so = |last: &Reply| !last.optional && (last.close || last.error.is_some());
        self.end == End::Closed && self.replies.last().is_some_and(says_so)
    }

    fn in_words(&self) -> String {
        let replies = self.replies.iter().map(|reply| {
            format!(
                "{}{}, ",
                reply.status,
                described(reply.error.as_deref(), reply.version.as_deref())
            )
        });
        format!("{}{:?}", replies.collect::<String>(), self.end)
    }
}

fn in_words(outcome: &Outcome) -> String {
    let replies = outcome.replies.iter().map(|reply| {
        let [error, version] =
            ["x-crossfade-error", "x-crossfade-version"].map(|name| reply.value(name).map(show));
        format!("{}{}, ", reply.status(), described(error.as_deref(), version.as_deref()))
    });
    format!("{}{:?}", replies.collect::<String>(), outcome.end.unwrap_or_default())
}

fn described(error: Option<&str>, version: Option<&str>) -> String {
    let error = error.map(|error| format!(" {error}"));
    let version = version.map(|version| format!(" version={version}"));
    error.into_iter().chain(version).collect()
}

impl Message {
    fn in_words(&self) -> String {
        let line = |field: &Field| format!(" | {}: {}", show(&field.name), show(&field.value));
        let fields: String = self.fields.iter().map(line).collect();
        let trailers: String = self.trailers.iter().map(line).collect();
        format!("{}{fields} || {}{trailers}", show(&self.start), show(&self.body))
    }
}
