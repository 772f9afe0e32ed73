use super::{
    super::{
        problem::quote,
        reader::{Scalar, ScalarKind, Wrong},
        shape::Shape,
    },
    choice,
    matching::HeaderName,
};
use crate::spec::{RedirectCode, RedirectUrl};
use std::sync::Arc;

/// Between two hosts, or of one message: what they say must stay true.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the proxy says of its own in a request, and what it has matched.
const OF_REQUESTS: [&str; 9] = [
    "expect",
    "forwarded",
    "host",
    "via",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// The same in a response.
const OF_RESPONSES: [&str; 4] = ["date", "via", "x-crossfade-error", "x-crossfade-version"];

const CHANGED: Shape = Shape::Text {
    what: "a header name",
    hint: "use letters, digits and `-`, such as `x-team`; not one that frames a message or is the proxy's own",
};

fn changeable(scalar: &Scalar<'_>, owned: &[&str]) -> Result<Arc<str>, Wrong> {
    let name = HeaderName::parse(scalar)?;
    let plain = name.replace('_', "-");
    let refused = |why: &str, fix: &str| {
        Err(Wrong::because(format!("{} {why}", quote(&scalar.text)), fix.to_owned()))
    };
    if FRAMING.contains(&&*plain) {
        return refused(
            "says how messages are framed or connections kept",
            "leave it to the proxy",
        );
    }
    if owned.contains(&&*plain) {
        return refused("is the proxy's own to say", "use another name, or leave it to the proxy");
    }
    Ok(name)
}

/// A header of a request that may be changed.
pub(in crate::config) struct RequestField;

impl ScalarKind for RequestField {
    type Value = Arc<str>;
    const FORM: Shape = CHANGED;

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        changeable(scalar, &OF_REQUESTS)
    }
}

/// A header of a response that may be changed.
pub(in crate::config) struct ResponseField;

impl ScalarKind for ResponseField {
    type Value = Arc<str>;
    const FORM: Shape = CHANGED;

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        changeable(scalar, &OF_RESPONSES)
    }
}

/// The value of a header as it is sent (RFC 9110 section 5.5).
pub(in crate::config) struct FieldValue;

impl ScalarKind for FieldValue {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "the value of a header",
        hint: "use at most 4096 printable ASCII characters, without spaces around them",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        let good = text.len() <= 4096
            && text.trim_matches([' ', '\t']) == text
            && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t');
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// The beginning of a path that is sent (RFC 3986 section 3.3).
pub(in crate::config) struct RewritePath;

impl ScalarKind for RewritePath {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "the beginning of a path",
        hint: "begin it with one `/`, without query and dot segments; percent-encode spaces and the like",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        const LONGEST: usize = 1024;
        let text = &*scalar.text;
        let is_of_a_path =
            |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&byte);
        let encodes = |at: usize| {
            let digits = text.as_bytes().get(at + 1..at + 3);
            digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        };
        let is_dotted = |segment: &str| {
            let plain = segment.to_ascii_lowercase().replace("%2e", ".");
            matches!(&*plain, "." | "..")
        };
        let good = text.starts_with('/')
            && !text.starts_with("//")
            && text.len() <= LONGEST
            && text.bytes().all(is_of_a_path)
            && text.match_indices('%').all(|(at, _)| encodes(at))
            && !text.contains("%00")
            && !text.split('/').any(is_dotted);
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// Where clients are sent.
pub(in crate::config) struct RedirectUrlKind;

impl ScalarKind for RedirectUrlKind {
    type Value = RedirectUrl;
    const FORM: Shape = Shape::Text {
        what: "a URL to redirect to",
        hint: "begin it with `https://`, `http://` or a path, such as `https://{host}{path}{query}`",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<RedirectUrl, Wrong> {
        RedirectUrl::new(&scalar.text).map_err(|error| {
            let message = format!("{} is not {}", quote(&scalar.text), Self::FORM.noun());
            Wrong::because(message, error.0)
        })
    }
}

choice! {
    RedirectCodeKind -> RedirectCode {
        "301" => RedirectCode::MovedPermanently,
        "302" => RedirectCode::Found,
        "303" => RedirectCode::SeeOther,
        "307" => RedirectCode::TemporaryRedirect,
        "308" => RedirectCode::PermanentRedirect,
    }
}
