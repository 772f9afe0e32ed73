//! A line of the access log.

use super::{
    escape::{escaped, needs_no_escape, plain_or_quoted, quoted, without_secrets},
    wall::Wall,
};
use crate::{
    live::{Account, Attempt, Labels, Text, hexadecimal_id},
    spec::{AccessLog, LogField, LogFormat, PlainField},
};
use jiff::Timestamp;
use std::{io::Write, net::IpAddr, sync::Arc};

pub(super) struct Lines {
    format: LogFormat,
    parts: Vec<Part>,
    second: Second,
    /// What was written of labels, at a place that follows from where they are in memory.
    known: Vec<Known>,
}

/// What is written in one go.
enum Part {
    Field(Field),
    /// Fields beside each other that are the same for all requests of a backend.
    Labels(Vec<Field>),
}

struct Field {
    field: LogField,
    key: Key,
}

/// What stands between the value before it and its own; in JSON, where that is a text, with the quote that begins it.
struct Key {
    whole: Box<[u8]>,
    /// The same, if it fits: a move of known size needs no call.
    short: [u8; SHORT],
}

const SHORT: usize = 24;

/// The texts of some labels, one for each part that is of labels.
#[derive(Default)]
struct Known {
    labels: Option<Arc<Labels>>,
    texts: Vec<Vec<u8>>,
}

/// How many labels are known; others are written anew for each line.
const KNOWN: usize = 256;

/// The last second that was written, and how.
struct Second {
    number: u64,
    text: [u8; SECOND],
}

const SECOND: usize = "1970-01-01T00:00:00".len();

/// A line that is being written.
struct Line<'a> {
    format: LogFormat,
    /// None of the account's own texts has anything that is to be escaped in JSON.
    is_plain: bool,
    begin: usize,
    out: &'a mut Vec<u8>,
}

impl Lines {
    pub(super) fn new(log: &AccessLog) -> Self {
        let mut parts = Vec::new();
        for field in &log.fields {
            let field = Field { field: field.clone(), key: Key::new(field, log.format) };
            match parts.last_mut() {
                Some(Part::Labels(run)) if field.is_of_labels() => run.push(field),
                _ if field.is_of_labels() => parts.push(Part::Labels(vec![field])),
                _ => parts.push(Part::Field(field)),
            }
        }
        let known = std::iter::repeat_with(Known::default).take(KNOWN).collect();
        Self { format: log.format, parts, second: Second::default(), known }
    }

    /// Adds a line. What there is nothing to say of is left out.
    pub(super) fn add(&mut self, account: &Account, wall: &Wall, out: &mut Vec<u8>) {
        let Self { format, parts, second, known } = self;
        let is_plain = needs_no_escape(account.texts());
        let mut line = Line { format: *format, is_plain, begin: out.len(), out };
        let mut of_labels = match account.labels() {
            Some(labels) => Known::of(labels, known, parts, *format).iter(),
            None => [].iter(),
        };
        for part in &*parts {
            match part {
                Part::Field(Field { field: LogField::Plain(field), key }) => {
                    tell(*field, key, account, wall, second, &mut line);
                }
                Part::Field(Field { field: LogField::Header(name), key }) => {
                    if let Some((_, value)) = account.headers.iter().find(|(it, _)| it == name) {
                        line.text(key, value);
                    }
                }
                Part::Labels(_) => of_labels.next().into_iter().for_each(|text| line.ready(text)),
            }
        }
        line.end();
    }
}

impl Field {
    fn is_of_labels(&self) -> bool {
        use PlainField as F;
        let LogField::Plain(field) = self.field else { return false };
        matches!(field, F::Service | F::Pool | F::Version | F::Backend)
    }
}

impl Key {
    /// Names have nothing that is to be escaped.
    fn new(field: &LogField, format: LogFormat) -> Self {
        let name = match field {
            LogField::Plain(field) => field.as_str().to_owned(),
            LogField::Header(name) => format!("header.{name}"),
        };
        let whole = match format {
            LogFormat::Json if is_text(field) => format!(",\"{name}\":\""),
            LogFormat::Json => format!(",\"{name}\":"),
            LogFormat::Text => format!(" {name}="),
        };
        let mut short = [0; SHORT];
        short.iter_mut().zip(whole.bytes()).for_each(|(to, from)| *to = from);
        Self { short, whole: whole.into_bytes().into() }
    }
}

/// In JSON.
fn is_text(field: &LogField) -> bool {
    use PlainField as F;
    let LogField::Plain(field) = field else { return true };
    !matches!(
        field,
        F::Attempts
            | F::Failed
            | F::Rescued
            | F::Status
            | F::BytesIn
            | F::BytesOut
            | F::QueueMs
            | F::ConnectMs
            | F::FirstByteMs
            | F::TotalMs
    )
}

impl Known {
    /// What is written of these labels.
    fn of<'a>(
        labels: &Arc<Labels>,
        known: &'a mut [Self],
        parts: &[Part],
        format: LogFormat,
    ) -> &'a [Vec<u8>] {
        let place = Arc::as_ptr(labels).addr() / align_of::<Labels>() % KNOWN;
        let Some(known) = known.get_mut(place) else { return &[] };
        if !known.labels.as_ref().is_some_and(|known| Arc::ptr_eq(known, labels)) {
            known.learn(labels, parts, format);
        }
        &known.texts
    }

    fn learn(&mut self, labels: &Arc<Labels>, parts: &[Part], format: LogFormat) {
        self.labels = Some(labels.clone());
        let runs = parts.iter().filter_map(|part| match part {
            Part::Labels(run) => Some(run),
            Part::Field(_) => None,
        });
        self.texts.resize_with(runs.clone().count(), Vec::new);
        for (run, text) in runs.zip(&mut self.texts) {
            text.clear();
            // Wherever it stands, there is a key before it.
            let mut line = Line { format, is_plain: false, begin: usize::MAX, out: text };
            for Field { field, key } in run {
                let value: &str = match field {
                    LogField::Plain(PlainField::Service) => &labels.service,
                    LogField::Plain(PlainField::Pool) => &labels.pool,
                    LogField::Plain(PlainField::Version) => &labels.version,
                    _ => &labels.backend,
                };
                line.text(key, value.as_bytes());
            }
        }
    }
}

impl Default for Second {
    fn default() -> Self {
        Self { number: 0, text: *b"1970-01-01T00:00:00" }
    }
}

impl Second {
    /// Nanoseconds since 1970, as RFC 3339 has it, in UTC.
    fn text(&mut self, nanos: u64) -> [u8; SECOND + 5] {
        let (number, millis) = (nanos / 1_000_000_000, nanos / 1_000_000 % 1000);
        if self.number != number {
            let at = i64::try_from(number).ok().and_then(|it| Timestamp::from_second(it).ok());
            let text = at.unwrap_or_default().to_string();
            if let Some(text) = text.as_bytes().first_chunk() {
                (self.number, self.text) = (number, *text);
            }
        }
        let mut text = *b"1970-01-01T00:00:00.000Z";
        let [hundreds, tens, ones] = thousandths(millis);
        text[..SECOND].copy_from_slice(&self.text);
        text[SECOND + 1..SECOND + 4].copy_from_slice(&[hundreds, tens, ones]);
        text
    }
}

impl Line<'_> {
    fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }

    /// What is before the first one in JSON is replaced at the end.
    fn is_first_of_text(&self) -> bool {
        !self.is_json() && self.out.len() == self.begin
    }

    #[inline]
    fn key(&mut self, key: &Key) {
        if key.whole.len() > SHORT || !self.is_json() {
            return self.whole_key(key);
        }
        let end = self.out.len() + key.whole.len();
        self.out.extend_from_slice(&key.short);
        self.out.truncate(end);
    }

    #[inline(never)]
    fn whole_key(&mut self, key: &Key) {
        let from = usize::from(self.is_first_of_text());
        self.out.extend_from_slice(&key.whole[from..]);
    }

    fn end_of_text(&mut self) {
        if self.is_json() {
            self.out.push(b'"');
        }
    }

    /// Keys and values.
    fn ready(&mut self, text: &[u8]) {
        let text = if self.is_first_of_text() { text.get(1..).unwrap_or_default() } else { text };
        self.out.extend_from_slice(text);
    }

    /// Nothing in it is to be escaped.
    fn word(&mut self, key: &Key, word: &[u8]) {
        self.key(key);
        self.out.extend_from_slice(word);
        self.end_of_text();
    }

    fn text(&mut self, key: &Key, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.key(key);
        if self.is_json() {
            escaped(text, self.out);
            self.out.push(b'"');
        } else {
            plain_or_quoted(text, self.out);
        }
    }

    /// One of the account's own, or made of it.
    fn own(&mut self, key: &Key, text: &[u8]) {
        if self.is_plain && self.is_json() && !text.is_empty() {
            self.word(key, text);
        } else {
            self.text(key, text);
        }
    }

    fn number(&mut self, key: &Key, number: u64) {
        self.key(key);
        decimal(number, self.out);
    }

    fn milliseconds(&mut self, key: &Key, nanos: u64) {
        self.key(key);
        milliseconds(nanos, self.out);
    }

    fn address(&mut self, key: &Key, address: IpAddr) {
        self.key(key);
        write_address(address, self.out);
        self.end_of_text();
    }

    fn truth(&mut self, key: &Key) {
        self.key(key);
        self.out.extend_from_slice(b"true");
    }

    fn failed(&mut self, key: &Key, account: &Account) {
        if failed(account).next().is_none() {
            return;
        }
        self.key(key);
        if !self.is_json() {
            let all = failed(account).map(|attempt| {
                let labels = &attempt.labels;
                format!("{}/{}:{}", labels.pool, labels.backend, why(attempt))
            });
            plain_or_quoted(all.collect::<Vec<_>>().join(",").as_bytes(), self.out);
            return;
        }
        for (nth, attempt) in failed(account).enumerate() {
            let Labels { pool, version, backend, .. } = &*attempt.labels;
            self.out.push(if nth == 0 { b'[' } else { b',' });
            let texts: [(&[u8], &str); 4] = [
                (b"{\"pool\":", pool),
                (b",\"version\":", version),
                (b",\"backend\":", backend),
                (b",\"reason\":", why(attempt)),
            ];
            for (key, text) in texts {
                self.out.extend_from_slice(key);
                quoted(text.as_bytes(), self.out);
            }
            self.out.extend_from_slice(b",\"ms\":");
            milliseconds(taken(attempt), self.out);
            self.out.push(b'}');
        }
        self.out.push(b']');
    }

    fn end(self) {
        match (self.format, self.out.get_mut(self.begin)) {
            (LogFormat::Json, Some(comma)) => {
                *comma = b'{';
                self.out.extend_from_slice(b"}\n");
            }
            (LogFormat::Json, None) => self.out.extend_from_slice(b"{}\n"),
            (LogFormat::Text, _) => self.out.push(b'\n'),
        }
    }
}

/// Says nothing where there is nothing to say.
#[inline]
fn tell(
    field: PlainField,
    key: &Key,
    account: &Account,
    wall: &Wall,
    second: &mut Second,
    line: &mut Line<'_>,
) {
    use PlainField as F;
    match field {
        // One at the front is known by what it looks like.
        F::Time if line.is_first_of_text() => {
            line.out.extend_from_slice(&second.text(wall.at(account.began)));
        }
        F::Time => line.word(key, &second.text(wall.at(account.began))),
        // Parts of their own.
        F::Service | F::Pool | F::Version | F::Backend => {}
        F::Route => line.own(key, account.text(Text::Route)),
        F::ChosenBy => {
            account.chosen_by.iter().for_each(|it| line.word(key, it.as_str().as_bytes()));
        }
        F::Attempts => line.number(key, account.attempts.len() as u64),
        F::Failed => line.failed(key, account),
        F::Rescued if account.is_rescued() => line.truth(key),
        F::Rescued => {}
        F::Client => account.client.iter().for_each(|it| line.address(key, *it)),
        F::Protocol => line.word(key, account.protocol.as_str().as_bytes()),
        F::Method => line.own(key, account.text(Text::Method)),
        F::Host => line.own(key, account.text(Text::Host)),
        F::Path => line.own(key, account.text(Text::Path)),
        F::Query => match account.text(Text::Query) {
            b"" => {}
            query => line.own(key, &without_secrets(query)),
        },
        F::Status => line.number(key, account.status.into()),
        F::Fault => {
            account.failure.iter().for_each(|(it, _)| line.word(key, it.as_str().as_bytes()));
        }
        F::Reason => {
            account.failure.iter().for_each(|(_, it)| line.word(key, it.as_str().as_bytes()));
        }
        F::BytesIn => line.number(key, account.bytes_in),
        F::BytesOut => line.number(key, account.bytes_out),
        F::QueueMs => match account.decided.since(account.began) {
            0 => {}
            waited => line.milliseconds(key, waited),
        },
        F::ConnectMs => {
            let taken = account.last().and_then(|last| last.connect);
            taken.into_iter().for_each(|taken| line.milliseconds(key, taken));
        }
        F::FirstByteMs => {
            let head = account.last().and_then(|last| last.head);
            head.iter().for_each(|head| line.milliseconds(key, head.at.since(account.began)));
        }
        F::TotalMs => line.milliseconds(key, account.ended.since(account.began)),
        F::Kind => line.word(key, if account.is_tunnel { b"tunnel" } else { b"request" }),
        F::RequestId => line.own(key, account.text(Text::RequestId)),
        F::TraceId => {
            account.trace.iter().for_each(|trace| line.word(key, &hexadecimal_id(trace.id)));
        }
    }
}

/// The library's own way costs as much as half of the line.
fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            decimal(first.into(), out);
            for octet in rest {
                out.push(b'.');
                decimal(octet.into(), out);
            }
        }
        // Writing to a vector cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

fn failed(account: &Account) -> impl Iterator<Item = &Attempt> {
    account.attempts.iter().filter(|attempt| attempt.failure.is_some())
}

fn why(attempt: &Attempt) -> &'static str {
    attempt.failure.map_or("", |reason| reason.as_str())
}

fn taken(attempt: &Attempt) -> u64 {
    attempt.ended.map_or(0, |ended| ended.since(attempt.began))
}

fn milliseconds(nanos: u64, out: &mut Vec<u8>) {
    let micros = nanos / 1000;
    decimal(micros / 1000, out);
    let [hundreds, tens, ones] = thousandths(micros % 1000);
    out.extend_from_slice(&[b'.', hundreds, tens, ones]);
}

fn thousandths(number: u64) -> [u8; 3] {
    let number = number as u32;
    [number / 100, number / 10, number].map(|digit| b'0' + (digit % 10) as u8)
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    // Most have one digit.
    if number < 10 {
        out.push(b'0' + number as u8);
        return;
    }
    let [hundreds, tens, ones] = thousandths(number % 1000);
    match number {
        0..100 => out.extend_from_slice(&[tens, ones]),
        100..1000 => out.extend_from_slice(&[hundreds, tens, ones]),
        _ => {
            decimal(number / 1000, out);
            out.extend_from_slice(&[hundreds, tens, ones]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::{Answered, ChosenBy, Clock, Fault, Labels, Moment, Reason, Trace},
        spec::LogTarget,
    };
    use serde_json::Value as Json;
    use std::{sync::Arc, time::Duration};

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    fn attempt(pool: &str, failure: Option<Reason>) -> Attempt {
        let labels = Labels {
            service: "shop".into(),
            pool: pool.into(),
            version: "v1".into(),
            backend: "127.0.0.1:9001".into(),
        };
        Attempt {
            labels: Arc::new(labels),
            began: at(2),
            connect: Some(1_500_000),
            head: None,
            ended: failure.map(|_| at(5)),
            failure,
            is_rescue: false,
            span: 0,
        }
    }

    fn account() -> Account {
        let mut account = Account::default();
        account.set_texts([b"GET", b"a.example", b"/x y\n", b"page=1&token=t", b"id-1", b"all"]);
        account.client = Some("192.0.2.1".parse().unwrap());
        (account.decided, account.ended) = (at(2), at(12));
        account.chosen_by = Some(ChosenBy::Sticky);
        account.attempts.push(attempt("blue", Some(Reason::ConnectFailed)));
        let mut second = attempt("green", None);
        second.is_rescue = true;
        second.head = Some(Answered { sent: at(6), at: at(9), status: 200 });
        account.attempts.push(second);
        (account.status, account.bytes_in, account.bytes_out) = (200, 3, 12_345);
        let trace = Trace { id: 0xabc, parent: None, span: 0, is_sampled: false };
        account.trace = Some(trace);
        account.headers.push(("user-agent".into(), (*b"curl \"8\"").into()));
        account
    }

    fn line(format: LogFormat, fields: Vec<LogField>, account: &Account) -> String {
        let log = AccessLog { format, fields, ..AccessLog::new(LogTarget::Stdout) };
        let mut out = Vec::new();
        Lines::new(&log).add(account, &Wall::now(Clock::start()), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn all_fields() -> Vec<LogField> {
        let mut fields: Vec<_> = PlainField::ALL.iter().copied().map(LogField::Plain).collect();
        fields.push(LogField::Header("user-agent".into()));
        fields
    }

    #[test]
    fn everything_is_said_as_json() {
        let text = line(LogFormat::Json, all_fields(), &account());
        assert_eq!(text.matches('\n').count(), 1);
        let mut json: Json = serde_json::from_str(&text).unwrap();
        let time = json.as_object_mut().unwrap().shift_remove("time").unwrap();
        assert!(
            time.as_str().unwrap().parse::<Timestamp>().is_ok() && text.contains(".0"),
            "{time}"
        );
        let expected = serde_json::json!({
            "service": "shop", "route": "all", "pool": "green", "version": "v1",
            "backend": "127.0.0.1:9001", "chosen_by": "sticky", "attempts": 2,
            "failed": [{ "pool": "blue", "version": "v1", "backend": "127.0.0.1:9001",
                "reason": "connect_failed", "ms": 3.0 }],
            "rescued": true, "client": "192.0.2.1", "protocol": "HTTP/1.1", "method": "GET",
            "host": "a.example", "path": "/x y\n", "query": "page=1&token=***", "status": 200,
            "bytes_in": 3, "bytes_out": 12345, "queue_ms": 2.0, "connect_ms": 1.5,
            "first_byte_ms": 9.0, "total_ms": 12.0, "kind": "request", "request_id": "id-1",
            "trace_id": "00000000000000000000000000000abc", "header.user-agent": "curl \"8\"",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn labels_that_are_known_are_written_as_others() {
        use PlainField as F;
        let header = LogField::Header("x-a-name-that-is-longer-than-most".into());
        let mut fields = [F::Pool, F::Version, F::Status, F::Service, F::Backend, F::Attempts];
        for format in [LogFormat::Json, LogFormat::Text] {
            for _ in 0..fields.len() {
                fields.rotate_left(1);
                let mut all = fields.map(LogField::Plain).to_vec();
                all.push(header.clone());
                let log = AccessLog { format, fields: all, ..AccessLog::new(LogTarget::Stdout) };
                let mut lines = Lines::new(&log);
                let labels: Vec<_> = ["blue", "gr\"n", ""]
                    .into_iter()
                    .map(|pool| attempt(pool, None).labels)
                    .map(Some)
                    .chain([None])
                    .collect();
                // More than are known, so that some are known where others were.
                let many = (0..2 * KNOWN).map(|_| Some(attempt("pink", None).labels));
                for labels in labels.iter().cloned().chain(many).chain(labels.iter().cloned()) {
                    let mut account = Account::default();
                    account.pool = labels;
                    account
                        .headers
                        .push(("x-a-name-that-is-longer-than-most".into(), (*b"1").into()));
                    let written = |lines: &mut Lines| {
                        let mut out = Vec::new();
                        lines.add(&account, &Wall::now(Clock::start()), &mut out);
                        String::from_utf8(out).unwrap()
                    };
                    let line = written(&mut lines);
                    assert_eq!(line, written(&mut Lines::new(&log)));
                    let pool =
                        account.labels().map(|it| it.pool.to_string()).filter(|it| !it.is_empty());
                    if format == LogFormat::Json {
                        let json: Json = serde_json::from_str(&line).unwrap();
                        assert_eq!(json.get("pool").and_then(Json::as_str), pool.as_deref());
                        assert_eq!(json["header.x-a-name-that-is-longer-than-most"], "1");
                    } else {
                        assert!(
                            !line.starts_with(' ') && line.ends_with("longer-than-most=1\n"),
                            "{line}"
                        );
                        assert_eq!(line.contains("pool="), pool.is_some(), "{line}");
                    }
                }
            }
        }
    }

    #[test]
    fn people_read_it_as_text() {
        use PlainField as F;
        let fields = [F::Time, F::Status, F::Method, F::Path, F::Failed, F::Fault, F::TotalMs];
        let fields = fields.map(LogField::Plain).to_vec();
        let text = line(LogFormat::Text, fields, &account());
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok(), "{time}");
        assert_eq!(
            rest,
            "status=200 method=GET path=\"/x y\\n\" failed=blue/127.0.0.1:9001:connect_failed \
             total_ms=12.000\n"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut account = Account::default();
        account.status = 400;
        account.failure = Some((Fault::Downstream, Reason::BadRequest));
        let fields = all_fields().into_iter();
        let fields = fields.filter(|it| *it != LogField::Plain(PlainField::Time)).collect();
        let text = line(LogFormat::Text, fields, &account);
        assert_eq!(
            text,
            "attempts=0 protocol=HTTP/1.1 status=400 fault=downstream reason=bad_request bytes_in=0 \
             bytes_out=0 total_ms=0.000 kind=request\n"
        );
        let none = vec![LogField::Plain(PlainField::Pool)];
        assert_eq!(line(LogFormat::Json, none, &account), "{}\n");
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 7, 10, 999, 1000, u64::MAX] {
            let mut out = Vec::new();
            decimal(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
        let mut out = Vec::new();
        milliseconds(1_234_567_890, &mut out);
        assert_eq!(out, b"1234.567");
    }
}
