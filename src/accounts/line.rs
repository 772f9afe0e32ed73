//! A line of the access log.

use super::{
    escape::{plain_or_quoted, quoted, without_secrets},
    wall::Wall,
};
use crate::{
    live::{Account, Attempt, Labels, Text, hexadecimal_id},
    spec::{AccessLog, LogField, LogFormat, PlainField},
};
use jiff::Timestamp;
use std::{io::Write, net::IpAddr};

pub(super) struct Lines {
    format: LogFormat,
    fields: Vec<Field>,
    /// The last second that was written, and how.
    second: (u64, String),
}

struct Field {
    field: LogField,
    /// What stands between the value before it and its own.
    key: Box<[u8]>,
}

/// A line that is being written. Every value comes with the key that is next.
struct Line<'a> {
    format: LogFormat,
    key: &'a [u8],
    second: &'a mut (u64, String),
    begin: usize,
    out: &'a mut Vec<u8>,
}

impl Lines {
    pub(super) fn new(log: &AccessLog) -> Self {
        let fields = log.fields.iter().map(|field| Field::new(field, log.format)).collect();
        Self { format: log.format, fields, second: (u64::MAX, String::new()) }
    }

    /// Adds a line. What there is nothing to say of is left out.
    pub(super) fn add(&mut self, account: &Account, wall: &Wall, out: &mut Vec<u8>) {
        let Self { format, fields, second } = self;
        let mut line = Line { format: *format, key: &[], second, begin: out.len(), out };
        for Field { field, key } in fields {
            line.key = key;
            match field {
                LogField::Plain(field) => tell(*field, account, wall, &mut line),
                LogField::Header(name) => {
                    if let Some((_, value)) = account.headers.iter().find(|(it, _)| it == name) {
                        line.text(value);
                    }
                }
            }
        }
        line.end();
    }
}

impl Field {
    /// Names have nothing that is to be escaped.
    fn new(field: &LogField, format: LogFormat) -> Self {
        let name = match field {
            LogField::Plain(field) => field.as_str().to_owned(),
            LogField::Header(name) => format!("header.{name}"),
        };
        let key = match format {
            LogFormat::Json => format!(",\"{name}\":"),
            LogFormat::Text => format!(" {name}="),
        };
        Self { field: field.clone(), key: key.into_bytes().into() }
    }
}

impl Line<'_> {
    fn is_json(&self) -> bool {
        self.format == LogFormat::Json
    }

    fn key(&mut self) {
        // What is before the first one is replaced at the end.
        let is_first = self.out.len() == self.begin && !self.is_json();
        self.out.extend_from_slice(&self.key[usize::from(is_first)..]);
    }

    /// Nothing in it is to be escaped.
    fn plain(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.key();
        if self.is_json() {
            self.out.push(b'"');
            write(self.out);
            self.out.push(b'"');
        } else {
            write(self.out);
        }
    }

    fn word(&mut self, word: &str) {
        self.plain(|out| out.extend_from_slice(word.as_bytes()));
    }

    fn text(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        self.key();
        if self.is_json() {
            quoted(text, self.out);
        } else {
            plain_or_quoted(text, self.out);
        }
    }

    fn number(&mut self, number: u64) {
        self.key();
        decimal(number, self.out);
    }

    fn milliseconds(&mut self, nanos: u64) {
        self.key();
        milliseconds(nanos, self.out);
    }

    fn truth(&mut self) {
        self.key();
        self.out.extend_from_slice(b"true");
    }

    /// Nanoseconds since 1970, as RFC 3339 has it, in UTC.
    fn time(&mut self, nanos: u64) {
        let (second, millis) = (nanos / 1_000_000_000, nanos / 1_000_000 % 1000);
        if self.second.0 != second {
            let at = i64::try_from(second).ok().and_then(|it| Timestamp::from_second(it).ok());
            let text = at.unwrap_or_default().to_string();
            *self.second = (second, format!("{}.", text.trim_end_matches('Z')));
        }
        // One at the front is known by what it looks like.
        if !self.is_json() && self.out.len() == self.begin {
            self.key = b" ";
        }
        let known = std::mem::take(&mut self.second.1);
        self.plain(|out| {
            out.extend_from_slice(known.as_bytes());
            let [hundreds, tens, ones] = thousandths(millis);
            out.extend_from_slice(&[hundreds, tens, ones, b'Z']);
        });
        self.second.1 = known;
    }

    fn failed(&mut self, account: &Account) {
        if failed(account).next().is_none() {
            return;
        }
        self.key();
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
fn tell(field: PlainField, account: &Account, wall: &Wall, line: &mut Line<'_>) {
    use PlainField as F;
    match field {
        F::Time => line.time(wall.at(account.began)),
        F::Service => line.text(account.labels().map_or(b"", |it| it.service.as_bytes())),
        F::Route => line.text(account.text(Text::Route)),
        F::Pool => line.text(account.labels().map_or(b"", |it| it.pool.as_bytes())),
        F::Version => line.text(account.labels().map_or(b"", |it| it.version.as_bytes())),
        F::Backend => line.text(account.labels().map_or(b"", |it| it.backend.as_bytes())),
        F::ChosenBy => account.chosen_by.iter().for_each(|it| line.word(it.as_str())),
        F::Attempts => line.number(account.attempts.len() as u64),
        F::Failed => line.failed(account),
        F::Rescued if account.is_rescued() => line.truth(),
        F::Rescued => {}
        F::Client => account.client.iter().for_each(|it| line.plain(|out| write_address(*it, out))),
        F::Protocol => line.word(account.protocol.as_str()),
        F::Method => line.text(account.text(Text::Method)),
        F::Host => line.text(account.text(Text::Host)),
        F::Path => line.text(account.text(Text::Path)),
        F::Query => match account.text(Text::Query) {
            b"" => {}
            query => line.text(&without_secrets(query)),
        },
        F::Status => line.number(account.status.into()),
        F::Fault => account.failure.iter().for_each(|(fault, _)| line.word(fault.as_str())),
        F::Reason => account.failure.iter().for_each(|(_, reason)| line.word(reason.as_str())),
        F::BytesIn => line.number(account.bytes_in),
        F::BytesOut => line.number(account.bytes_out),
        F::QueueMs => match account.decided.since(account.began) {
            0 => {}
            waited => line.milliseconds(waited),
        },
        F::ConnectMs => {
            let taken = account.last().and_then(|last| last.connect);
            taken.into_iter().for_each(|taken| line.milliseconds(taken));
        }
        F::FirstByteMs => {
            let head = account.last().and_then(|last| last.head);
            head.iter().for_each(|head| line.milliseconds(head.at.since(account.began)));
        }
        F::TotalMs => line.milliseconds(account.ended.since(account.began)),
        F::Kind => line.word(if account.is_tunnel { "tunnel" } else { "request" }),
        F::RequestId => line.text(account.text(Text::RequestId)),
        F::TraceId => {
            let id = account.trace.as_ref().map(|trace| hexadecimal_id(trace.id));
            id.iter().for_each(|id| line.plain(|out| out.extend_from_slice(id)));
        }
    }
}

/// The library's own way costs as much as half of the line.
fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (nth, octet) in address.octets().into_iter().enumerate() {
                if nth > 0 {
                    out.push(b'.');
                }
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
    [number / 100, number / 10, number].map(|digit| b'0' + (digit % 10) as u8)
}

fn decimal(mut number: u64, out: &mut Vec<u8>) {
    // Most are small.
    if number < 1000 {
        let [hundreds, tens, ones] = thousandths(number);
        if number >= 100 {
            out.push(hundreds);
        }
        if number >= 10 {
            out.push(tens);
        }
        out.push(ones);
        return;
    }
    let mut digits = [0; 20];
    let mut from = digits.len();
    while number > 0 {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[from..]);
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
