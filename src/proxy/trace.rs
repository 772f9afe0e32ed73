//! W3C Trace Context: whose trace a request belongs to. Only listeners that begin traces ask.

use super::fields::Lines;

pub(super) const TRACEPARENT: &str = "traceparent";
pub(super) const TRACESTATE: &[u8] = b"tracestate";

/// The request belongs to a trace: exactly one line says so, in a way that is understood (sections 3.2 and 4.3).
pub(super) fn is_part_of_one(lines: &impl Lines) -> bool {
    let mut said = lines.values(TRACEPARENT);
    matches!((said.next(), said.next()), (Some(parent), None) if is_valid(parent))
}

/// A field that tells of a trace.
pub(super) fn tells(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(TRACEPARENT.as_bytes()) || name.eq_ignore_ascii_case(TRACESTATE)
}

/// `00-TRACE-PARENT-FLAGS`; what later versions add follows another dash.
fn is_valid(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(55) else { return false };
    let version = &known[..2];
    let is_dashed = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    let (trace, parent) = (&known[3..35], &known[36..52]);
    let is_hex = |text: &[u8]| text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_some = |id: &[u8]| is_hex(id) && id.iter().any(|digit| *digit != b'0');
    let fits = match version {
        b"00" => more.is_empty(),
        b"ff" => false,
        _ => more.is_empty() || more[0] == b'-',
    };
    fits && is_dashed
        && is_hex(version)
        && is_some(trace)
        && is_some(parent)
        && is_hex(&known[53..])
}

/// The beginning of a trace with this id, 32 hexadecimal digits. It is sampled: who begins traces wants to see some,
/// and those behind would record none of one that is not.
pub(super) fn begin(id: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(55);
    value.extend_from_slice(b"00-");
    value.extend_from_slice(id);
    value.push(b'-');
    // The proxy records no span of its own: any id does, but for all zeros.
    let parent = &id[id.len().saturating_sub(16)..];
    let is_none = parent.iter().all(|digit| *digit == b'0');
    value.extend_from_slice(if is_none { b"0000000000000001" } else { parent });
    value.extend_from_slice(b"-01");
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_understood() {
        for (value, good) in [
            (GOOD, true),
            (&GOOD.replace("-01", "-ff"), true),
            (&GOOD.replacen("00", "cc", 1), true),
            (&format!("{}-what-comes", GOOD.replacen("00", "cc", 1)), true),
            (&format!("{}.what", GOOD.replacen("00", "cc", 1)), false),
            (&format!("{GOOD}-more"), false),
            (&GOOD.replacen("00", "ff", 1), false),
            (&GOOD.replacen("00", "0x", 1), false),
            (&GOOD.to_uppercase(), false),
            (&GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), false),
            (&GOOD.replace("b7ad6b7169203331", &"0".repeat(16)), false),
            (&GOOD.replace("-01", "-0g"), false),
            (&GOOD.replace('-', "_"), false),
            (&GOOD[..54], false),
            ("", false),
        ] {
            assert_eq!(is_valid(value.as_bytes()), good, "{value}");
        }
    }

    #[test]
    fn one_line_says_it() {
        let mut lines = HeaderMap::new();
        assert!(!is_part_of_one(&lines));
        lines.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(is_part_of_one(&lines));
        lines.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(!is_part_of_one(&lines));
    }

    #[test]
    fn what_begins_is_valid() {
        for id in ["0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd0000000000000000"] {
            let value = begin(id.as_bytes());
            assert!(is_valid(&value), "{}", String::from_utf8_lossy(&value));
        }
    }
}
