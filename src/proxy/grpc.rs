//! What gRPC says on top of HTTP (its protocol over HTTP/2): calls are requests of a content type of their own,
//! and how one ended is in a field of the trailers.

use super::{
    failure,
    headers::{Sink, X_CROSSFADE_ERROR},
};
use crate::live::Reason;
use http::{HeaderMap, header};
use std::time::Duration;

const STATUS: &str = "grpc-status";

/// A request is a call.
pub(super) fn is_call(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE).map_or(&b""[..], |kind| kind.as_bytes());
    let rest = kind.strip_prefix(b"application/grpc");
    // `application/grpc-web` is something else, which HTTP/1 carries too.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// How long the client waits for the whole of its call: up to eight digits and a unit.
pub(super) fn timeout(fields: &HeaderMap) -> Option<Duration> {
    let value = fields.get("grpc-timeout").filter(|_| is_call(fields))?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let is_number = matches!(digits.len(), 1..=8) && digits.bytes().all(|it| it.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The call has failed by the server's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE,
/// DATA_LOSS (as OpenTelemetry's conventions for servers have it), or a status that is missing or none.
pub(super) fn has_failed(trailers: Option<&HeaderMap>) -> bool {
    matches!(status_of(trailers), Some(2 | 4 | 12..=15) | None)
}

/// What counts against the version that answered: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, or nothing that
/// clients would not take for UNKNOWN.
pub(super) fn is_error(trailers: Option<&HeaderMap>) -> bool {
    matches!(status_of(trailers), Some(2 | 4 | 13 | 14) | None)
}

fn status_of(trailers: Option<&HeaderMap>) -> Option<u32> {
    trailers.and_then(|trailers| trailers.get(STATUS))?.to_str().ok()?.parse().ok()
}

/// What a call that the proxy answers itself gets in the place of fields and page: the status that comes closest
/// to the one of HTTP.
pub(super) fn fields(reason: Reason, sink: &mut impl Sink) {
    sink.line(b"content-type", b"application/grpc");
    let status: &[u8] = match reason.status() {
        408 | 504 => b"4",
        413 | 414 | 431 => b"8",
        404 | 501 => b"12",
        400 | 417 => b"13",
        502 | 503 => b"14",
        _ => b"2",
    };
    sink.line(STATUS.as_bytes(), status);
    sink.line(b"grpc-message", failure::page(reason).trim_end().as_bytes());
    sink.line(X_CROSSFADE_ERROR.as_bytes(), reason.as_str().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields_of(name: &str, value: &str) -> HeaderMap {
        let mut fields = HeaderMap::new();
        fields.line(name.as_bytes(), value.as_bytes());
        fields
    }

    #[test]
    fn calls_are_told_by_their_content_type() {
        for kind in ["application/grpc", "application/grpc+proto", "application/grpc; x=y"] {
            assert!(is_call(&fields_of("content-type", kind)), "{kind}");
        }
        for kind in ["application/grpc-web", "application/json", "application/grpcx"] {
            assert!(!is_call(&fields_of("content-type", kind)), "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_a_number_and_a_unit() {
        let of = |kind, value| {
            let mut fields = fields_of("content-type", kind);
            fields.line(b"grpc-timeout", str::as_bytes(value));
            timeout(&fields).map(|timeout| timeout.as_micros())
        };
        let call = "application/grpc";
        for (value, micros) in [("2H", 7_200_000_000), ("3M", 180_000_000), ("1S", 1_000_000)] {
            assert_eq!(of(call, value), Some(micros));
        }
        for (value, micros) in [("0m", 0), ("99999999m", 99_999_999_000), ("5u", 5), ("2000n", 2)] {
            assert_eq!(of(call, value), Some(micros));
        }
        for wrong in ["", "S", "1", "1s", "+1S", " 1S", "123456789S", "1Sm", "-1S", "1\u{e9}"] {
            assert_eq!(of(call, wrong), None, "{wrong:?}");
        }
        assert_eq!(of("application/json", "1S"), None);
    }

    #[test]
    fn what_is_the_servers_fault() {
        let failed: Vec<u32> = (0..=16)
            .filter(|status| has_failed(Some(&fields_of(STATUS, &status.to_string()))))
            .collect();
        assert_eq!(failed, [2, 4, 12, 13, 14, 15]);
        assert!(has_failed(None) && has_failed(Some(&HeaderMap::new())));
        assert!(has_failed(Some(&fields_of(STATUS, "ok"))));
    }

    #[test]
    fn every_refusal_has_a_status() {
        for reason in Reason::ALL {
            let mut fields = HeaderMap::new();
            super::fields(reason, &mut fields);
            assert!(has_failed(Some(&fields)) || fields[STATUS] == "8", "{reason:?}");
            assert!(
                !fields["grpc-message"].as_bytes().iter().any(|byte| !(b' '..=b'~').contains(byte))
            );
        }
    }
}
