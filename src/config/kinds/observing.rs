use super::super::{
    problem::quote,
    reader::{Scalar, ScalarKind, Wrong},
    scalar,
    shape::Shape,
    suggest,
};
use crate::spec::{LogField, PlainField, Share, may_be_secret};
use std::path::PathBuf;

/// Where lines are written, a file as it is named in the configuration.
pub(in crate::config) struct LogTargetKind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) enum Target {
    Stdout,
    Stderr,
    File(PathBuf),
}

impl ScalarKind for LogTargetKind {
    type Value = Target;
    const FORM: Shape = Shape::Text {
        what: "`stdout`, `stderr` or the path of a file",
        hint: "use `stdout`, `stderr`, or a path such as `access.log`; a relative one begins at the folder of this file",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Target, Wrong> {
        match &*scalar.text {
            "stdout" => Ok(Target::Stdout),
            "stderr" => Ok(Target::Stderr),
            text if text.is_empty() || text.contains('\0') || text.ends_with('/') => {
                Err(Wrong::Kind)
            }
            text => Ok(Target::File(text.into())),
        }
    }
}

/// What a line shows.
pub(in crate::config) struct LogFieldKind;

const HEADER: &str = "header.";

impl LogFieldKind {
    pub(in crate::config) fn word(field: &LogField) -> String {
        match field {
            LogField::Plain(field) => field.as_str().to_owned(),
            LogField::Header(name) => format!("{HEADER}{name}"),
        }
    }
}

impl ScalarKind for LogFieldKind {
    type Value = LogField;
    const FORM: Shape = Shape::Text {
        what: "a field of the access log",
        hint: "use a field such as `status` or `header.user-agent`; docs/logs.md lists them",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<LogField, Wrong> {
        let text = &*scalar.text;
        if let Some(name) = text.strip_prefix(HEADER) {
            return header(name);
        }
        let words = || PlainField::ALL.iter().map(|field| field.as_str());
        if let Some(field) = PlainField::ALL.iter().find(|field| field.as_str() == text) {
            return Ok(LogField::Plain(*field));
        }
        let fix = match suggest::nearest(text, words()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use some of {} or `header.NAME`", suggest::list(words())),
        };
        Err(Wrong::because(format!("{} is no field of the access log", quote(text)), fix))
    }
}

fn header(name: &str) -> Result<LogField, Wrong> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(Wrong::Kind);
    }
    if may_be_secret(name) {
        return Err(Wrong::because(
            format!("{} may hold what lets somebody in", quote(name)),
            "leave it out: whoever reads the log could use it",
        ));
    }
    Ok(LogField::Header(name.to_ascii_lowercase().into()))
}

/// A share of all, as a fraction or in percent.
pub(in crate::config) struct SampleKind;

impl SampleKind {
    /// As a fraction.
    pub(in crate::config) fn word(share: Share) -> String {
        share.as_f64().to_string()
    }
}

impl ScalarKind for SampleKind {
    type Value = Share;
    const FORM: Shape = Shape::Either(&[
        Shape::Number { what: "a fraction", hint: "use a fraction from 0 to 1, such as `0.01`" },
        Shape::Part { min: 0, max: 1_000_000, signed: true },
    ]);

    fn parse(scalar: &Scalar<'_>) -> Result<Share, Wrong> {
        let text = &*scalar.text;
        let (number, scale) = match text.strip_suffix('%') {
            Some(number) => (number, 10_000),
            None => (text, 1_000_000),
        };
        let Some(number_read) = scalar::parse_number(number) else { return Err(Wrong::Kind) };
        let share = scalar::parse_decimal(number, scale).and_then(Share::of_millionths);
        share.ok_or_else(|| match (number_read, scale) {
            (number, 1_000_000) if number > 1.0 && number <= 100.0 => Wrong::because(
                format!("{} is more than all, which is 1", quote(text)),
                format!("write `{text}%` if it is in percent"),
            ),
            (number, _) if (0.0..=1.0).contains(&number) => Wrong::because(
                format!("{} is finer than one in a million", quote(text)),
                Self::FORM.hint(),
            ),
            _ => Wrong::because(format!("{} is out of range", quote(text)), Self::FORM.hint()),
        })
    }
}
