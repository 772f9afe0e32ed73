use super::super::{
    problem::quote,
    reader::{Scalar, ScalarKind, Wrong},
    shape::Shape,
};
use std::{path::PathBuf, sync::Arc};

/// The name of a service, pool or route: also a metric label and a part of URLs.
pub(in crate::config) struct NameKind;

impl ScalarKind for NameKind {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a name",
        hint: "use 1 to 100 letters, digits, `-`, `_` and `.`, a letter or digit first",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        let good = (1..=100).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// A short text for people: a version, a salt.
pub(in crate::config) struct Label;

impl ScalarKind for Label {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a label",
        hint: "use 1 to 200 characters without control characters or spaces around them",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        let good = (1..=200).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control);
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// A path with an optional query, as it is sent to a backend.
pub(in crate::config) struct Target;

impl ScalarKind for Target {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a path",
        hint: "begin it with `/`, such as `/health/ready`; percent-encode spaces and the like",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = &*scalar.text;
        if text.contains("://") && !text.starts_with('/') {
            return Err(Wrong::because(
                format!("{} is a URL", quote(text)),
                "give its path alone: each backend is asked at its own address",
            ));
        }
        let sendable = text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        if text.starts_with('/') && sendable { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// A query in the language of somebody else, who says what is wrong with it.
pub(in crate::config) struct QueryText;

impl ScalarKind for QueryText {
    type Value = Arc<str>;
    const FORM: Shape = Shape::Text {
        what: "a query",
        hint: "use 1 to 10000 bytes of PromQL whose answer is one number",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Arc<str>, Wrong> {
        let text = scalar.text.trim();
        let good = (1..=10_000).contains(&text.len()) && !text.contains('\0');
        if good { Ok(text.into()) } else { Err(Wrong::Kind) }
    }
}

/// The path of a file, relative to the configuration.
pub(in crate::config) struct FilePath;

impl ScalarKind for FilePath {
    type Value = PathBuf;
    const FORM: Shape = Shape::Text {
        what: "the path of a file",
        hint: "use a path such as `tls/shop.crt`; a relative one begins at the folder of this file",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<PathBuf, Wrong> {
        let text = &*scalar.text;
        if text.is_empty() || text.contains('\0') { Err(Wrong::Kind) } else { Ok(text.into()) }
    }
}
