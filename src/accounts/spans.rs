//! The spans of a request: one of its own, and one for each attempt, with the names of OpenTelemetry's semantic
//! conventions for HTTP (stable since 1.23).

use super::{
    otlp::{KeyValue, Kind, Span, Status, StatusCode, Value},
    wall::Wall,
};
use crate::live::{Account, Attempt, Fault, METHODS, Text, Trace, method_index};

/// Of a span's flags: those of its trace, and what is known of its parent.
const SAMPLED: u32 = 1;
const KNOWS_PARENT: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;

/// None if it belongs to no trace that is recorded.
pub(super) fn spans(account: &Account, wall: &Wall) -> Vec<Span> {
    let Some(trace) = account.trace.filter(|trace| trace.is_sampled) else { return Vec::new() };
    let method = Method::of(account);
    let mut spans = vec![of_request(account, &trace, &method, wall)];
    for (nth, attempt) in account.attempts.iter().enumerate() {
        spans.push(of_attempt(account, &trace, &method, (nth, attempt), wall));
    }
    spans
}

struct Method {
    /// A known one, else `_OTHER`.
    name: &'static str,
    original: Option<String>,
}

impl Method {
    fn of(account: &Account) -> Self {
        let text = account.text(Text::Method);
        match METHODS[method_index(text)] {
            "OTHER" => Self { name: "_OTHER", original: Some(lossy(text)) },
            name => Self { name, original: None },
        }
    }

    /// Of a span, which must not have too many.
    fn span(&self) -> String {
        if self.original.is_some() { "HTTP".into() } else { self.name.into() }
    }

    fn tell(&self, attributes: &mut Vec<KeyValue>) {
        attributes.push(KeyValue::text("http.request.method", self.name));
        if let Some(original) = &self.original {
            attributes.push(KeyValue::text("http.request.method_original", original));
        }
    }
}

fn of_request(account: &Account, trace: &Trace, method: &Method, wall: &Wall) -> Span {
    let mut attributes = Vec::with_capacity(20);
    method.tell(&mut attributes);
    let mut tell = |attribute| attributes.push(attribute);
    let path = account.text(Text::Path);
    if !path.is_empty() {
        tell(KeyValue::text("url.path", lossy(path)));
    }
    tell(KeyValue::text("url.scheme", if account.is_secure { "https" } else { "http" }));
    let host = lossy(account.text(Text::Host));
    if !host.is_empty() {
        server(&host, &mut tell);
    }
    if let Some(client) = account.client {
        tell(KeyValue::text("client.address", client.to_string()));
    }
    tell(KeyValue::text("network.protocol.name", "http"));
    let version = account.protocol.as_str().trim_start_matches("HTTP/");
    tell(KeyValue::text("network.protocol.version", version));
    tell(KeyValue::whole("http.response.status_code", account.status.into()));
    tell(KeyValue::whole("http.request.body.size", account.bytes_in));
    tell(KeyValue::whole("http.response.body.size", account.bytes_out));
    for (key, text) in [("crossfade.route", Text::Route), ("crossfade.request_id", Text::RequestId)]
    {
        let text = account.text(text);
        if !text.is_empty() {
            tell(KeyValue::text(key, lossy(text)));
        }
    }
    if let Some(labels) = account.labels() {
        tell(KeyValue::text("crossfade.service", &*labels.service));
        tell(KeyValue::text("crossfade.pool", &*labels.pool));
        tell(KeyValue::text("crossfade.version", &*labels.version));
        if !labels.backend.is_empty() {
            tell(KeyValue::text("crossfade.backend", &*labels.backend));
        }
    }
    if let Some(chosen_by) = account.chosen_by {
        tell(KeyValue::text("crossfade.chosen_by", chosen_by.as_str()));
    }
    tell(KeyValue::whole("crossfade.attempts", account.attempts.len() as u64));
    if account.is_rescued() {
        tell(KeyValue::new("crossfade.rescued", Value::Flag(true)));
    }
    let waited = account.decided.since(account.began);
    if waited > 0 {
        tell(KeyValue::new("crossfade.queue_ms", millis(waited)));
    }
    if let Some((fault, reason)) = account.failure {
        tell(KeyValue::text("crossfade.fault", fault.as_str()));
        tell(KeyValue::text("crossfade.reason", reason.as_str()));
    }
    // What a client did wrong is no error of who serves it.
    let failure = account.failure.filter(|(fault, _)| *fault != Fault::Downstream);
    let error = match (failure, account.status) {
        (Some((_, reason)), _) => Some(reason.as_str().to_owned()),
        (None, status @ 500..) => Some(status.to_string()),
        _ => None,
    };
    Span {
        trace_id: trace.id.to_be_bytes().to_vec(),
        span_id: trace.span.to_be_bytes().to_vec(),
        parent_span_id: trace.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: method.span(),
        kind: Kind::Server.into(),
        start_time_unix_nano: wall.at(account.began),
        end_time_unix_nano: wall.at(account.ended),
        status: status(error, &mut attributes),
        attributes,
        flags: SAMPLED | KNOWS_PARENT | if trace.parent.is_some() { PARENT_IS_REMOTE } else { 0 },
    }
}

fn of_attempt(
    account: &Account,
    trace: &Trace,
    method: &Method,
    (nth, attempt): (usize, &Attempt),
    wall: &Wall,
) -> Span {
    let mut attributes = Vec::with_capacity(12);
    method.tell(&mut attributes);
    let mut tell = |attribute| attributes.push(attribute);
    let labels = &attempt.labels;
    server(&labels.backend, &mut tell);
    if nth > 0 {
        tell(KeyValue::whole("http.request.resend_count", nth as u64));
    }
    tell(KeyValue::text("crossfade.service", &*labels.service));
    tell(KeyValue::text("crossfade.pool", &*labels.pool));
    tell(KeyValue::text("crossfade.version", &*labels.version));
    tell(KeyValue::text("crossfade.backend", &*labels.backend));
    if attempt.is_rescue {
        tell(KeyValue::new("crossfade.rescued", Value::Flag(true)));
    }
    if let Some(taken) = attempt.connect {
        tell(KeyValue::new("crossfade.connect_ms", millis(taken)));
    }
    if let Some(answer) = attempt.head {
        tell(KeyValue::whole("http.response.status_code", answer.status.into()));
        tell(KeyValue::new("crossfade.first_byte_ms", millis(answer.at.since(answer.sent))));
    }
    if let Some(reason) = attempt.failure {
        tell(KeyValue::text("crossfade.reason", reason.as_str()));
    }
    // To who asks, any refusal is an error.
    let answered = attempt.head.map(|answer| answer.status).filter(|status| *status >= 400);
    let is_last = account.last().is_some_and(|last| last.span == attempt.span);
    let cut = account.failure.filter(|(fault, _)| is_last && *fault != Fault::Downstream);
    let error = answered
        .map(|status| status.to_string())
        .or_else(|| Some(attempt.failure?.as_str().to_owned()))
        .or_else(|| Some(cut?.1.as_str().to_owned()));
    Span {
        trace_id: trace.id.to_be_bytes().to_vec(),
        span_id: attempt.span.to_be_bytes().to_vec(),
        parent_span_id: trace.span.to_be_bytes().to_vec(),
        name: method.span(),
        kind: Kind::Client.into(),
        start_time_unix_nano: wall.at(attempt.began),
        end_time_unix_nano: wall.at(attempt.ended.unwrap_or(account.ended)),
        status: status(error, &mut attributes),
        attributes,
        flags: SAMPLED | KNOWS_PARENT,
    }
}

/// An address as host and port.
fn server(address: &str, tell: &mut impl FnMut(KeyValue)) {
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (host, port.parse::<u16>().ok())
        }
        _ => (address, None),
    };
    let host = match port {
        Some(_) => host,
        // A path, an IPv6 address, or a name alone.
        None => address,
    };
    tell(KeyValue::text("server.address", host.trim_start_matches('[').trim_end_matches(']')));
    if let Some(port) = port {
        tell(KeyValue::whole("server.port", port.into()));
    }
}

fn status(error: Option<String>, attributes: &mut Vec<KeyValue>) -> Option<Status> {
    let error = error?;
    attributes.push(KeyValue::text("error.type", error));
    Some(Status { message: String::new(), code: StatusCode::Error.into() })
}

fn millis(nanos: u64) -> Value {
    Value::Number(nanos as f64 / 1e6)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (address, host, port) in [
            ("shop.example.com", "shop.example.com", None),
            ("shop.example.com:8080", "shop.example.com", Some(8080)),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("unix:/run/a.sock", "unix:/run/a.sock", None),
        ] {
            let mut told = Vec::new();
            server(address, &mut |attribute| told.push(attribute));
            let mut expected = vec![KeyValue::text("server.address", host)];
            expected.extend(port.map(|port| KeyValue::whole("server.port", port)));
            assert_eq!(told, expected);
        }
    }
}
