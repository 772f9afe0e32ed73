//! W3C Trace Context: whose trace a request belongs to. Asked where listeners begin traces, or requests are written
//! down.

use super::fields::{Known, Lines};
use crate::{
    live::{from_hexadecimal, from_hexadecimal_id, hexadecimal, hexadecimal_back, hexadecimal_id},
    spec::Share,
};

pub(super) const TRACEPARENT: &str = "traceparent";
pub(super) const TRACESTATE: &[u8] = b"tracestate";

/// Bytes of a `traceparent` of version 00.
pub(super) const LENGTH: usize = 55;

/// Most that a `tracestate` may have of each (section 3.3.1).
const MOST_MEMBERS: usize = 32;
const LONGEST_PART: usize = 256;

/// What a request says of its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: u128,
    /// The span of who has asked.
    pub(super) span: u64,
    pub(super) is_sampled: bool,
}

/// The request says something of a trace, whether that is understood or not.
pub(super) fn is_told(lines: &impl Lines) -> bool {
    let mut lines = lines.lines();
    lines.any(|(known, name, _)| known == Known::Other && (is_parent(name) || is_state(name)))
}

/// The request belongs to a trace: exactly one line says so, in a way that is understood (sections 3.2 and 4.3).
pub(super) fn is_part_of_one(lines: &impl Lines) -> bool {
    said(lines).is_some()
}

fn said(lines: &impl Lines) -> Option<&[u8]> {
    let mut said = lines.values(TRACEPARENT);
    match (said.next(), said.next()) {
        (Some(parent), None) if is_valid(parent) => Some(parent),
        _ => None,
    }
}

/// The trace that a request belongs to. Of later versions what version 00 has is taken (section 4.3).
pub(super) fn parent(lines: &impl Lines) -> Option<Parent> {
    let said = said(lines)?;
    let flags = std::str::from_utf8(said.get(53..55)?).ok()?;
    Some(Parent {
        trace: from_hexadecimal_id(said.get(3..35)?.try_into().ok()?)?,
        span: from_hexadecimal(said.get(36..52)?.try_into().ok()?)?,
        is_sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    })
}

/// `tracestate` is as section 3.3.1 has it, or not there; else nobody can read it.
pub(super) fn has_good_state(lines: &impl Lines) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    let state = std::str::from_utf8(TRACESTATE).unwrap_or_default();
    let members = lines.values(state).flat_map(|line| line.split(|byte| *byte == b','));
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        let Some(at) = member.iter().position(|byte| *byte == b'=') else { return false };
        let (key, value) = (&member[..at], &member[at + 1..]);
        let is_new = !keys.contains(&key);
        keys.push(key);
        if !is_new || keys.len() > MOST_MEMBERS || !is_key(key) || !is_value(value) {
            return false;
        }
    }
    true
}

fn is_key(key: &[u8]) -> bool {
    let begins = key.first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let may_be =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let tenants = key.iter().filter(|byte| **byte == b'@').count();
    begins && key.len() <= LONGEST_PART && key.iter().all(may_be) && tenants <= 1
}

fn is_value(value: &[u8]) -> bool {
    let may_be = |byte: &u8| matches!(byte, 0x20..=0x7e) && !b",=".contains(byte);
    !value.is_empty() && value.len() <= LONGEST_PART && value.iter().all(may_be)
}

/// The same decision for a trace wherever it is made: by the lower half of its id, as OpenTelemetry's ratio sampler
/// does.
pub(super) fn is_drawn(trace: u128, share: Share) -> bool {
    // 63 bits: all of a share is above each of them.
    let bits = trace as u64 >> 1;
    let bound = u128::from(share.millionths()) << 63;
    u128::from(bits) * u128::from(Share::ALL.millionths()) < bound
}

/// A request id of the proxy's own making as a trace's id, which is not 0.
pub(super) fn id_of(digits: &[u8]) -> Option<u128> {
    digits.try_into().ok().map(hexadecimal_back).filter(|id| *id != 0)
}

/// The line for who answers this span.
pub(super) fn line(trace: u128, span: u64, is_sampled: bool) -> [u8; LENGTH] {
    let mut line = *b"00-................................-................-00";
    line[3..35].copy_from_slice(&hexadecimal_id(trace));
    line[36..52].copy_from_slice(&hexadecimal(span));
    line[54] += u8::from(is_sampled);
    line
}

/// Which field that tells of a trace a name is.
pub(super) fn is_parent(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(TRACEPARENT.as_bytes())
}

pub(super) fn is_state(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(TRACESTATE)
}

/// `00-TRACE-PARENT-FLAGS`; what later versions add follows another dash.
fn is_valid(value: &[u8]) -> bool {
    let Some((known, more)) = value.split_at_checked(LENGTH) else { return false };
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
    let mut value = Vec::with_capacity(LENGTH);
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
    fn what_is_said_is_understood() {
        let mut lines = HeaderMap::new();
        lines.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        let found = parent(&lines).unwrap();
        assert_eq!(found.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((found.span, found.is_sampled), (0xb7ad_6b71_6920_3331, true));
        let again = line(found.trace, found.span, true);
        assert_eq!(again, *GOOD.as_bytes());
        lines.insert(
            TRACEPARENT,
            HeaderValue::from_static("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02-x"),
        );
        assert!(!parent(&lines).unwrap().is_sampled, "of the flags only one bit is known");
        assert_eq!(id_of(b"0af7651916cd43dd8448eb211c80319c"), Some(found.trace));
        assert_eq!(id_of(&[b'0'; 32]), None);
    }

    #[test]
    fn a_state_that_nobody_can_read_is_known() {
        let is_good = |state: &str| {
            let mut lines = HeaderMap::new();
            lines.append("tracestate", HeaderValue::from_str(state).unwrap());
            has_good_state(&lines)
        };
        assert!(has_good_state(&HeaderMap::new()));
        let many = |n| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        for good in ["rojo=00f067aa0ba902b7, congo=t61 x", "a@b=c", " ,a=b,,", &many(32)] {
            assert!(is_good(good), "{good}");
        }
        let long = format!("a={}", "x".repeat(257));
        for bad in ["a", "a=", "=b", "A=b", "a=b=c", "a=b,a=c", "a@b@c=d", &many(33), &long] {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn a_share_of_all_traces_is_drawn() {
        let share = |millionths| Share::of_millionths(millionths).unwrap();
        let ids =
            || (0..10_000u128).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        assert!(ids().all(|id| is_drawn(id, Share::ALL) && !is_drawn(id, Share::NONE)));
        assert!(is_drawn(u128::MAX, Share::ALL));
        let drawn = ids().filter(|id| is_drawn(*id, share(250_000))).count();
        assert!((2300..2700).contains(&drawn), "{drawn}");
        assert!(ids().all(|id| !is_drawn(id, share(10_000)) || is_drawn(id, share(20_000))));
    }

    #[test]
    fn what_begins_is_valid() {
        for id in ["0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd0000000000000000"] {
            let value = begin(id.as_bytes());
            assert!(is_valid(&value), "{}", String::from_utf8_lossy(&value));
        }
    }
}
