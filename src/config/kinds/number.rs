use super::super::{
    problem::quote,
    reader::{Scalar, ScalarKind, Wrong},
    scalar::{self, LONGEST},
    shape::Shape,
};
use crate::spec::Weight;
use std::time::Duration;

pub(in crate::config) struct Flag;

impl ScalarKind for Flag {
    type Value = bool;
    const FORM: Shape = Shape::Flag;

    fn parse(scalar: &Scalar<'_>) -> Result<bool, Wrong> {
        // YAML 1.2 section 10.3.2: `yes` and `on` are texts.
        match (scalar.plain, &*scalar.text) {
            (true, "true" | "True" | "TRUE") => Ok(true),
            (true, "false" | "False" | "FALSE") => Ok(false),
            (false, "true" | "false") => Err(quoted(scalar, "true or false")),
            _ => Err(Wrong::Kind),
        }
    }
}

/// A whole number from `MIN` to `MAX`.
pub(in crate::config) struct Count<const MIN: u32, const MAX: u32>;

impl<const MIN: u32, const MAX: u32> ScalarKind for Count<MIN, MAX> {
    type Value = u32;
    const FORM: Shape = Shape::Whole { min: MIN as u64, max: MAX as u64 };

    fn parse(scalar: &Scalar<'_>) -> Result<u32, Wrong> {
        let number = whole(scalar)?;
        match u32::try_from(number) {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(number),
            _ => Err(out_of_range(scalar, &format!("{MIN} to {MAX}"))),
        }
    }
}

pub(in crate::config) struct Weighting;

impl ScalarKind for Weighting {
    type Value = Weight;
    const FORM: Shape = Shape::Whole { min: 0, max: Weight::MAX as u64 };

    fn parse(scalar: &Scalar<'_>) -> Result<Weight, Wrong> {
        if scalar.plain && scalar.text.parse::<f64>().is_ok_and(|number| number.fract() != 0.0) {
            return Err(Wrong::because(
                format!("{} is not a whole number", quote(&scalar.text)),
                "weights are relative, so multiply them all: 99.5 and 0.5 are 199 and 1",
            ));
        }
        Weight::new(whole(scalar)?)
            .ok_or_else(|| out_of_range(scalar, &format!("0 to {}", Weight::MAX)))
    }
}

/// A duration; zero only where that has a meaning.
pub(in crate::config) struct Span<const ZERO: bool>;

impl<const ZERO: bool> ScalarKind for Span<ZERO> {
    type Value = Duration;
    const FORM: Shape = Shape::Duration { zero: ZERO };

    fn parse(scalar: &Scalar<'_>) -> Result<Duration, Wrong> {
        let text = &*scalar.text;
        if text.parse::<u64>().is_ok() {
            return Err(Wrong::because(
                format!("{} has no unit", quote(text)),
                format!("write its unit, such as `{text}s`; also `ms`, `m`, `h` and `d`"),
            ));
        }
        let duration = scalar::parse_duration(text).ok_or(Wrong::Kind)?;
        if duration.is_zero() && !ZERO {
            return Err(Wrong::because(
                format!("{} would leave no time at all", quote(text)),
                Self::FORM.hint(),
            ));
        }
        if duration > LONGEST {
            return Err(Wrong::because(
                format!("{} is too long", quote(text)),
                format!("use at most `{}`", scalar::format_duration(LONGEST)),
            ));
        }
        Ok(duration)
    }
}

/// A size in bytes from `MIN` to `MAX`.
pub(in crate::config) struct Bytes<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> ScalarKind for Bytes<MIN, MAX> {
    type Value = u64;
    const FORM: Shape = Shape::Size { min: MIN, max: MAX };

    fn parse(scalar: &Scalar<'_>) -> Result<u64, Wrong> {
        let Some(bytes) = scalar::parse_size(&scalar.text) else {
            let iec = format!("{}iB", scalar.text.to_uppercase());
            return Err(match scalar::parse_size(&iec) {
                Some(_) => Wrong::because(
                    format!("{} has an unclear unit", quote(&scalar.text)),
                    format!("did you mean `{iec}`? Units are B, KB, MB, GB, KiB, MiB, GiB"),
                ),
                None => Wrong::Kind,
            });
        };
        if (MIN..=MAX).contains(&bytes) {
            return Ok(bytes);
        }
        let (min, max) = (scalar::format_size(MIN), scalar::format_size(MAX));
        Err(out_of_range(scalar, &format!("{min} to {max}")))
    }
}

pub(in crate::config) struct Percent;

impl ScalarKind for Percent {
    type Value = u32;
    const FORM: Shape = Shape::Percent;

    fn parse(scalar: &Scalar<'_>) -> Result<u32, Wrong> {
        scalar::parse_percent(&scalar.text).ok_or_else(|| {
            match scalar::parse_percent(&format!("{}%", scalar.text)) {
                Some(percent) => Wrong::because(
                    format!("{} has no percent sign", quote(&scalar.text)),
                    format!("write `{percent}%`"),
                ),
                None => Wrong::Kind,
            }
        })
    }
}

/// Any whole number that is not negative; larger ones than `u64` holds are as good as its largest.
fn whole(scalar: &Scalar<'_>) -> Result<u64, Wrong> {
    let digits = scalar.text.strip_prefix('+').unwrap_or(&scalar.text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Wrong::Kind);
    }
    if !scalar.plain {
        return Err(quoted(scalar, "a number"));
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

fn quoted(scalar: &Scalar<'_>, meant: &str) -> Wrong {
    Wrong::because(
        format!("{} is in quotes, so it is a text, not {meant}", quote(&scalar.text)),
        format!("write {} without quotes", quote(&scalar.text)),
    )
}

fn out_of_range(scalar: &Scalar<'_>, range: &str) -> Wrong {
    Wrong::because(format!("{} is out of range", quote(&scalar.text)), format!("use {range}"))
}
