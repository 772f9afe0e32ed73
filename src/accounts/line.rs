//! A line of the access log.

use super::{
    escape::{plain_or_quoted, quoted, without_secrets},
    wall::Wall,
};
use crate::{
    live::{Account, Attempt, Text},
    spec::{AccessLog, LogField, LogFormat, PlainField},
};
use jiff::Timestamp;
use std::{io::Write, net::IpAddr};

pub(super) struct Lines {
    format: LogFormat,
    fields: Vec<LogField>,
    /// The last second that was written, and how.
    second: (u64, String),
}

/// What a field says.
enum Value<'a> {
    Word(&'static str),
    Text(&'a [u8]),
    Owned(Vec<u8>),
    Address(IpAddr),
    Number(u64),
    /// Nanoseconds, in milliseconds.
    Time(u64),
    /// Nanoseconds since 1970.
    At(u64),
    Id(u128),
    True,
    /// Attempts that have failed.
    Attempts(Vec<&'a Attempt>),
}

impl Lines {
    pub(super) fn new(log: &AccessLog) -> Self {
        Self { format: log.format, fields: log.fields.clone(), second: (u64::MAX, String::new()) }
    }

    /// Adds a line. What there is nothing to say of is left out.
    pub(super) fn add(&mut self, account: &Account, wall: &Wall, out: &mut Vec<u8>) {
        let fields = std::mem::take(&mut self.fields);
        let begin = out.len();
        for field in &fields {
            let value = match field {
                LogField::Plain(field) => value(*field, account, wall),
                LogField::Header(name) => {
                    let found = account.headers.iter().find(|(known, _)| known == name);
                    found.map(|(_, value)| Value::Text(value))
                }
            };
            let Some(value) = value else { continue };
            let (prefix, name) = match field {
                LogField::Plain(field) => ("", field.as_str()),
                LogField::Header(name) => ("header.", &**name),
            };
            match self.format {
                LogFormat::Json => {
                    out.push(if out.len() == begin { b'{' } else { b',' });
                    // Names have nothing that is to be escaped.
                    out.push(b'"');
                    out.extend_from_slice(prefix.as_bytes());
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b"\":");
                    self.as_json(&value, out);
                }
                LogFormat::Text => {
                    if out.len() > begin {
                        out.push(b' ');
                    }
                    // A time at the front is known by what it looks like.
                    if !matches!(value, Value::At(_)) || out.len() > begin {
                        out.extend_from_slice(prefix.as_bytes());
                        out.extend_from_slice(name.as_bytes());
                        out.push(b'=');
                    }
                    self.as_text(&value, out);
                }
            }
        }
        match self.format {
            LogFormat::Json if out.len() == begin => out.extend_from_slice(b"{}\n"),
            LogFormat::Json => out.extend_from_slice(b"}\n"),
            LogFormat::Text => out.push(b'\n'),
        }
        self.fields = fields;
    }

    fn as_json(&mut self, value: &Value<'_>, out: &mut Vec<u8>) {
        match value {
            Value::Word(word) => quoted(word.as_bytes(), out),
            Value::Text(text) => quoted(text, out),
            Value::Owned(text) => quoted(text, out),
            Value::At(_) | Value::Id(_) | Value::Address(_) => {
                out.push(b'"');
                self.bare(value, out);
                out.push(b'"');
            }
            Value::Number(_) | Value::Time(_) | Value::True => self.bare(value, out),
            Value::Attempts(attempts) => {
                for (nth, attempt) in attempts.iter().enumerate() {
                    out.extend_from_slice(if nth == 0 { b"[{\"pool\":" } else { b",{\"pool\":" });
                    quoted(attempt.labels.pool.as_bytes(), out);
                    out.extend_from_slice(b",\"version\":");
                    quoted(attempt.labels.version.as_bytes(), out);
                    out.extend_from_slice(b",\"backend\":");
                    quoted(attempt.labels.backend.as_bytes(), out);
                    out.extend_from_slice(b",\"reason\":");
                    quoted(why(attempt).as_bytes(), out);
                    out.extend_from_slice(b",\"ms\":");
                    milliseconds(taken(attempt), out);
                    out.push(b'}');
                }
                out.push(b']');
            }
        }
    }

    fn as_text(&mut self, value: &Value<'_>, out: &mut Vec<u8>) {
        match value {
            Value::Word(word) => out.extend_from_slice(word.as_bytes()),
            Value::Text(text) => plain_or_quoted(text, out),
            Value::Owned(text) => plain_or_quoted(text, out),
            Value::Attempts(attempts) => {
                let all = attempts.iter().map(|attempt| {
                    let labels = &attempt.labels;
                    format!("{}/{}:{}", labels.pool, labels.backend, why(attempt))
                });
                plain_or_quoted(all.collect::<Vec<_>>().join(",").as_bytes(), out);
            }
            other => self.bare(other, out),
        }
    }

    /// What is the same in both.
    fn bare(&mut self, value: &Value<'_>, out: &mut Vec<u8>) {
        match value {
            Value::Number(number) => decimal(*number, out),
            Value::Time(nanos) => milliseconds(*nanos, out),
            Value::At(nanos) => self.time(*nanos, out),
            // Writing to a vector cannot fail.
            Value::Id(id) => drop(write!(out, "{id:032x}")),
            Value::Address(address) => drop(write!(out, "{address}")),
            Value::True => out.extend_from_slice(b"true"),
            Value::Word(_) | Value::Text(_) | Value::Owned(_) | Value::Attempts(_) => {}
        }
    }

    /// RFC 3339, in UTC.
    fn time(&mut self, nanos: u64, out: &mut Vec<u8>) {
        let (second, millis) = (nanos / 1_000_000_000, nanos / 1_000_000 % 1000);
        if self.second.0 != second {
            let at = i64::try_from(second).ok().and_then(|it| Timestamp::from_second(it).ok());
            let text = at.unwrap_or_default().to_string();
            self.second = (second, text.trim_end_matches('Z').to_owned());
        }
        out.extend_from_slice(self.second.1.as_bytes());
        out.push(b'.');
        thousandths(millis, out);
        out.push(b'Z');
    }
}

/// `None`: there is nothing to say.
fn value<'a>(field: PlainField, account: &'a Account, wall: &Wall) -> Option<Value<'a>> {
    use PlainField as F;
    let labels = account.labels();
    let last = account.last();
    let text = |text: &'a [u8]| (!text.is_empty()).then_some(Value::Text(text));
    let named = |text: Option<&'a str>| Some(Value::Text(text?.as_bytes()));
    match field {
        F::Time => Some(Value::At(wall.at(account.began))),
        F::Service => named(labels.map(|it| &*it.service)),
        F::Route => text(account.text(Text::Route)),
        F::Pool => named(labels.map(|it| &*it.pool)),
        F::Version => named(labels.map(|it| &*it.version)),
        F::Backend => text(labels?.backend.as_bytes()),
        F::ChosenBy => Some(Value::Word(account.chosen_by?.as_str())),
        F::Attempts => Some(Value::Number(account.attempts().count() as u64)),
        F::Failed => {
            let failed: Vec<_> = account.attempts().filter(|it| it.failure.is_some()).collect();
            (!failed.is_empty()).then_some(Value::Attempts(failed))
        }
        F::Rescued => account.is_rescued().then_some(Value::True),
        F::Client => account.client.map(Value::Address),
        F::Protocol => Some(Value::Word(account.protocol.as_str())),
        F::Method => text(account.text(Text::Method)),
        F::Host => text(account.text(Text::Host)),
        F::Path => text(account.text(Text::Path)),
        F::Query => {
            let query = account.text(Text::Query);
            (!query.is_empty()).then(|| Value::Owned(without_secrets(query)))
        }
        F::Status => Some(Value::Number(account.status.into())),
        F::Fault => Some(Value::Word(account.failure?.0.as_str())),
        F::Reason => Some(Value::Word(account.failure?.1.as_str())),
        F::BytesIn => Some(Value::Number(account.bytes_in)),
        F::BytesOut => Some(Value::Number(account.bytes_out)),
        F::QueueMs => {
            let waited = account.decided.since(account.began);
            (waited > 0).then_some(Value::Time(waited))
        }
        F::ConnectMs => last?.connect.map(Value::Time),
        F::FirstByteMs => Some(Value::Time(last?.head?.at.since(account.began))),
        F::TotalMs => Some(Value::Time(account.ended.since(account.began))),
        F::Kind => Some(Value::Word(if account.is_tunnel { "tunnel" } else { "request" })),
        F::RequestId => text(account.text(Text::RequestId)),
        F::TraceId => account.trace.map(|trace| Value::Id(trace.id)),
    }
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
    out.push(b'.');
    thousandths(micros % 1000, out);
}

fn thousandths(number: u64, out: &mut Vec<u8>) {
    let digits = [number / 100, number / 10, number].map(|digit| b'0' + (digit % 10) as u8);
    out.extend_from_slice(&digits);
}

fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
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
        let mut account = Account::new(Moment::default());
        account.set_texts([b"GET", b"a.example", b"/x y\n", b"page=1&token=t", b"id-1", b"all"]);
        account.client = Some("192.0.2.1".parse().unwrap());
        (account.decided, account.ended) = (at(2), at(12));
        account.chosen_by = Some(ChosenBy::Sticky);
        account.add(attempt("blue", Some(Reason::ConnectFailed)));
        let mut second = attempt("green", None);
        second.is_rescue = true;
        second.head = Some(Answered { sent: at(6), at: at(9), status: 200 });
        account.add(second);
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
        let mut account = Account::new(Moment::default());
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
