use super::super::{
    keys::ValueMatchSection,
    problem::quote,
    reader::{Field, Kind, Reader, Scalar, ScalarKind, Wrong},
    shape::Shape,
    tree::{Data, NodeId},
};
use crate::spec::{HostPattern, Pattern, ValueMatch};
use std::{net::Ipv6Addr, sync::Arc};

/// The host of a request, perhaps with a wildcard.
pub(in crate::config) struct Host;

impl ScalarKind for Host {
    type Value = HostPattern;
    const FORM: Shape = Shape::Text {
        what: "a host",
        hint: "use a name without scheme and port, such as `shop.example.com` or `*.example.com`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<HostPattern, Wrong> {
        let text = &*scalar.text;
        if text == "*" {
            return Err(Wrong::because("`*` is any host", "leave `hosts` out to match any host"));
        }
        if let Some(suffix) = text.strip_prefix("*.") {
            let suffix = host_name(suffix).ok_or(Wrong::Kind)?;
            return Ok(HostPattern::Suffix(suffix.into()));
        }
        if let Some((host, port)) = text.rsplit_once(':')
            && port.parse::<u16>().is_ok()
            && host_name(host).is_some()
        {
            return Err(Wrong::because(
                format!("{} has a port", quote(text)),
                format!("use `{host}`: hosts are compared without their port"),
            ));
        }
        Ok(HostPattern::Exact(host_name(text).ok_or(Wrong::Kind)?.into()))
    }
}

/// A host in its normal form: lower case, no dot at the end, IPv6 in brackets.
pub(super) fn host_name(text: &str) -> Option<String> {
    if let Some(inside) = text.strip_prefix('[') {
        let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (name.len() <= 253 && name.split('.').all(label)).then_some(name)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

pub(in crate::config) struct HeaderName;

impl ScalarKind for HeaderName {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a header name",
        hint: "use letters, digits and `-`, such as `X-User-Id`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        if is_token(&scalar.text) {
            Ok(scalar.text.to_ascii_lowercase().into())
        } else {
            Err(Wrong::Kind)
        }
    }
}

pub(in crate::config) struct CookieName;

impl ScalarKind for CookieName {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a cookie name",
        hint: "use letters, digits, `-` and `_`, such as `user`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        if is_token(&scalar.text) { Ok((&*scalar.text).into()) } else { Err(Wrong::Kind) }
    }
}

/// The name of a query parameter, decoded.
pub(in crate::config) struct ParameterName;

impl ScalarKind for ParameterName {
    type Value = Arc<str>;
    const FORM: Shape =
        Shape::Text { what: "a parameter name", hint: "use a text that is not empty" };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        if scalar.text.is_empty() { Err(Wrong::Kind) } else { Ok((&*scalar.text).into()) }
    }
}

pub(in crate::config) struct Method;

impl ScalarKind for Method {
    type Value = Arc<str>;
    const FORM: Shape =
        Shape::Text { what: "a method", hint: "use a method in capitals, such as `GET`" };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        const KNOWN: [&str; 9] =
            ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
        let text = &*scalar.text;
        let capitals = text.to_ascii_uppercase();
        if capitals != text && KNOWN.contains(&&*capitals) {
            return Err(Wrong::because(
                format!("{} is not a method: methods are case-sensitive", quote(text)),
                format!("use `{capitals}`"),
            ));
        }
        if is_token(text) { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// A path to compare with that of a request, as it is on the wire.
pub(in crate::config) struct UrlPath;

impl ScalarKind for UrlPath {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a path",
        hint: "begin it with `/`, without query; percent-encode spaces and the like",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        let sendable = text.bytes().all(|b| b.is_ascii_graphic() && !b"#?\\".contains(&b));
        if !text.starts_with('/') || !sendable {
            return Err(Wrong::Kind);
        }
        if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(Wrong::because(
                format!("{} has a `.` or `..` segment, which no request may have", quote(text)),
                "write the path without them",
            ));
        }
        Ok(text.into())
    }
}

pub(in crate::config) struct Regex;

impl ScalarKind for Regex {
    type Value = Pattern;
    const FORM: Shape = Shape::Text {
        what: "a regular expression",
        hint: "use a regular expression for the whole value, without look-around, such as `/v[0-9]+/.*`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Pattern, Wrong> {
        // The limit on what it compiles to comes too late for the memory that parsing it takes.
        const LONGEST: usize = 4096;
        if scalar.text.len() > LONGEST {
            let message = format!("{} has {} bytes", quote(&scalar.text), scalar.text.len());
            return Err(Wrong::because(message, format!("use at most {LONGEST}")));
        }
        Pattern::new(&scalar.text).map_err(|error| {
            let reason = match &error {
                regex::Error::CompiledTooBig(limit) => {
                    format!("it compiles to more than {} KiB", limit >> 10)
                }
                // The parser draws the place over several lines; its reason is the last one.
                other => {
                    let text = other.to_string();
                    let last = text.lines().last().unwrap_or_default();
                    last.strip_prefix("error: ").unwrap_or(last).to_owned()
                }
            };
            let message = format!("{} is not {}", quote(&scalar.text), Self::FORM.noun());
            Wrong::because(format!("{message}: {reason}"), Self::FORM.hint())
        })
    }
}

/// A text that a value must equal.
struct ExactValue;

impl ScalarKind for ExactValue {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a text",
        hint: "use a text without control characters or spaces around it",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        let good = text.trim_matches([' ', '\t']) == text && !text.chars().any(char::is_control);
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// What a header, cookie or parameter must be: a text, `{regex: ...}` or `{present: true}`.
pub(in crate::config) struct ValuePattern;

impl Kind for ValuePattern {
    type Value = ValueMatch;
    const SHAPE: Shape = Shape::Either(&[ExactValue::FORM, ValueMatchSection::SHAPE]);

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<ValueMatch> {
        if !matches!(reader.data(node), Data::Map(_)) {
            return ExactValue::read(reader, node).map(ValueMatch::Exact);
        }
        let ValueMatchSection { regex, present } = ValueMatchSection::read(reader, node)?;
        match (regex, present) {
            (Field::Good(regex), Field::Absent) => Some(ValueMatch::Regex(regex.value)),
            (Field::Absent, Field::Good(present)) if present.value => Some(ValueMatch::Present),
            (Field::Absent, Field::Good(present)) => {
                reader.problem(present.node, "`false` is not supported here", "use `true`");
                None
            }
            (Field::Bad(_), _) | (_, Field::Bad(_)) => None,
            (Field::Absent, Field::Absent) | (Field::Good(_), Field::Good(_)) => {
                let fix = "use exactly one of `regex` and `present`, or a text";
                reader.problem(node, "this says neither or both of `regex` and `present`", fix);
                None
            }
        }
    }
}
