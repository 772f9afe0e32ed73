use super::super::{
    problem::quote,
    reader::{Kind, Reader, Scalar, ScalarKind, Wrong, is_null},
    scalar,
    shape::Shape,
    tree::{Data, NodeId},
};
use crate::spec::Share;
use std::marker::PhantomData;

/// A part of a whole in percent, from `MIN` to `MAX` millionths; without its sign only where nobody could take it for
/// a fraction.
pub(in crate::config) struct Part<const MIN: u32, const MAX: u32, const SIGNED: bool>;

impl<const MIN: u32, const MAX: u32, const SIGNED: bool> ScalarKind for Part<MIN, MAX, SIGNED> {
    type Value = Share;
    const FORM: Shape = Shape::Part { min: MIN, max: MAX, signed: SIGNED };

    fn parse(scalar: &Scalar<'_>) -> Result<Share, Wrong> {
        Share::of_millionths(percent(scalar, &Self::FORM)?).ok_or(Wrong::Kind)
    }
}

/// How much more, in percent of what it was.
pub(in crate::config) struct Growth;

impl ScalarKind for Growth {
    /// In millionths.
    type Value = u32;
    const FORM: Shape = Shape::Part { min: 0, max: 10_000_000, signed: true };

    fn parse(scalar: &Scalar<'_>) -> Result<u32, Wrong> {
        percent(scalar, &Self::FORM)
    }
}

/// In millionths, as `form` wants it.
fn percent(scalar: &Scalar<'_>, form: &Shape) -> Result<u32, Wrong> {
    let Shape::Part { min, max, signed } = *form else { return Err(Wrong::Kind) };
    let text = &*scalar.text;
    let number = text.strip_suffix('%');
    let Some(millionths) = scalar::parse_decimal(number.unwrap_or(text), 10_000) else {
        let finer = scalar::parse_number(number.unwrap_or(text)).filter(|number| *number > 0.0);
        return Err(match finer {
            Some(number) if number < 1_000.0 => Wrong::because(
                format!("{} has more than four digits after the point", quote(text)),
                form.hint(),
            ),
            _ => Wrong::Kind,
        });
    };
    if signed && number.is_none() {
        return Err(Wrong::because(
            format!("{} has no percent sign", quote(text)),
            match millionths {
                0..=10_000 => format!(
                    "write `{text}%`, or `{}%` if it is a fraction",
                    scalar::format_part(millionths * 100)
                ),
                _ => format!("write `{text}%`"),
            },
        ));
    }
    if (min..=max).contains(&millionths) {
        return Ok(millionths);
    }
    Err(Wrong::because(format!("{} is out of range", quote(text)), form.hint()))
}

/// Above 0 and below 1.
pub(in crate::config) struct Quantile;

impl ScalarKind for Quantile {
    type Value = Share;
    const FORM: Shape = Shape::Number {
        what: "a quantile",
        hint: "use a fraction above 0 and below 1, such as `0.99`, with up to six digits after the point",
    };

    fn parse(scalar: &Scalar<'_>) -> Result<Share, Wrong> {
        let share = scalar::parse_decimal(&scalar.text, 1_000_000).and_then(Share::of_millionths);
        share.filter(|share| ![Share::NONE, Share::ALL].contains(share)).ok_or(Wrong::Kind)
    }
}

/// Any number that is finite.
pub(in crate::config) struct Decimal;

impl ScalarKind for Decimal {
    type Value = f64;
    const FORM: Shape =
        Shape::Number { what: "a number", hint: "use a number such as `0.01`, `250` or `1e6`" };

    fn parse(scalar: &Scalar<'_>) -> Result<f64, Wrong> {
        scalar::parse_number(&scalar.text).ok_or(Wrong::Kind)
    }
}

/// A mapping, or `off` or nothing (`None`).
pub(in crate::config) struct OffOr<K>(PhantomData<K>);

impl<K: Kind> Kind for OffOr<K> {
    type Value = Option<K::Value>;
    const SHAPE: Shape = Shape::Either(&[Shape::Off, K::SHAPE]);

    fn read(reader: &mut Reader<'_>, node: NodeId) -> Option<Self::Value> {
        if let Data::Scalar { text, plain } = reader.data(node) {
            if *plain && is_null(text) {
                return Some(None);
            }
            let scalar = reader.scalar(node, &Self::SHAPE)?;
            return match &*scalar.text {
                "off" => Some(None),
                _ => reader.wrong_form(node, &Self::SHAPE),
            };
        }
        K::read(reader, node).map(Some)
    }
}
