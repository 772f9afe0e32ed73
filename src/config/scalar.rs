//! Durations, sizes and percentages: from text and back, exactly.

use std::time::Duration;

/// The units of a duration, largest first, in milliseconds.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Longest: no timer of a proxy is meant to be longer, and adding it to a clock never overflows.
pub(super) const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// The units of a size, largest binary one first.
const SIZES: [(&str, u64); 11] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

/// `1h30m`: whole numbers with units, larger units first, each at most once.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = DURATIONS.iter();
    let mut total = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let &(_, ms) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(ms)?)?;
        rest = after;
    }
    Some(Duration::from_millis(total))
}

/// The shortest text that [`parse_duration`] reads as the same, to the millisecond.
pub fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, ms) in DURATIONS {
        if rest / ms > 0 {
            text.push_str(&format!("{}{unit}", rest / ms));
            rest %= ms;
        }
    }
    text
}

/// `64KiB`, `10MB`, `4096`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let &(_, bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(bytes)
}

/// In the largest binary unit that divides it.
pub(super) fn format_size(bytes: u64) -> String {
    for &(unit, size) in SIZES.iter().take(4) {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    bytes.to_string()
}

/// `20%`: a whole number from 0 to 100.
pub(super) fn parse_percent(text: &str) -> Option<u32> {
    match split_number(text)? {
        (number, "%") if number <= 100 => u32::try_from(number).ok(),
        _ => None,
    }
}

/// `0.1` in `1 / scale`: 1,000 for a scale of 10,000. `None`: it is no number, negative, or finer than that.
pub(super) fn parse_decimal(text: &str, scale: u32) -> Option<u32> {
    let number = parse_number(text)?;
    let scaled = (number * f64::from(scale)).round();
    let whole = (0.0..=f64::from(u32::MAX)).contains(&scaled).then_some(scaled as u32)?;
    // Both sides are the number nearest to the same decimal, unless it has more digits.
    (f64::from(whole) / f64::from(scale) == number).then_some(whole)
}

/// A number as JSON writes it: no `inf`, `.5` or `0x1f`.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_of_a_number = |byte: u8| byte.is_ascii_digit() || b".eE+-".contains(&byte);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) || !digits.bytes().all(is_of_a_number) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// Millionths in percent, without the sign.
pub(super) fn format_part(millionths: u32) -> String {
    (f64::from(millionths) / 10_000.0).to_string()
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("1s500ms", 1_500),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(format_duration(Duration::from_millis(ms)), text);
        }
        let bad =
            ["", "30", "s", "-1s", "1.5s", "30m1h", "1s1s", "1 s", "1S", "30sec", "1s ", "1µs"];
        for text in bad {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(parse_duration("99999999999999999999s"), None);
        assert_eq!(parse_duration("300000000000000d"), None);
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("1GiB", 1 << 30),
            ("1000001", 1_000_001),
            ("0", 0),
            ("3TiB", 3 << 40),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(parse_size("10MB"), Some(10_000_000));
        assert_eq!(parse_size("5kB"), Some(5_000));
        assert_eq!(parse_size("7B"), Some(7));
        for text in ["", "KiB", "64K", "64k", "-1", "1.5GiB", "64 KiB", "99999999TiB"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn percentages() {
        assert_eq!(parse_percent("20%"), Some(20));
        assert_eq!(parse_percent("100%"), Some(100));
        for text in ["20", "101%", "-1%", "1.5%", "%", "20 %"] {
            assert_eq!(parse_percent(text), None, "{text}");
        }
    }

    #[test]
    fn decimals() {
        for (text, scale, value) in [
            ("0.1", 10_000, Some(1_000)),
            ("100", 10_000, Some(1_000_000)),
            ("1.0", 10_000, Some(10_000)),
            ("1e-6", 1_000_000, Some(1)),
            ("0.00001", 10_000, None),
            ("-1", 10_000, None),
            ("99999999999", 10_000, None),
        ] {
            assert_eq!(parse_decimal(text, scale), value, "{text}");
        }
        for text in ["", "inf", "nan", ".5", "0x1f", "1_0", "-", "1e999", " 1", "1e", "1-2"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
        assert_eq!(parse_number("-1.5e3"), Some(-1_500.0));
    }

    proptest! {
        #[test]
        fn parts_and_back(millionths: u32) {
            prop_assert_eq!(parse_decimal(&format_part(millionths), 10_000), Some(millionths));
        }

        #[test]
        fn text_and_back(ms in 0..=366u64 * 86_400_000, bytes: u64) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_survived(text: String) {
            let _ = (parse_duration(&text), parse_size(&text), parse_percent(&text));
            let _ = (parse_number(&text), parse_decimal(&text, 10_000));
        }
    }
}
