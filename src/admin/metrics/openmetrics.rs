//! What the text format and OpenMetrics 1.0 do not agree on.

use std::fmt::Write;

pub(in crate::admin) const CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether who asks would rather have OpenMetrics (RFC 9110 section 12.5.1).
pub(in crate::admin) fn is_wanted(accept: &str) -> bool {
    let quality = |kind: &str| {
        let offers = accept.split(',').filter_map(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            let name = parts.next()?;
            let quality = parts.find_map(|part| part.strip_prefix("q="));
            let quality = quality.map_or(Some(1.0), |it| it.parse::<f64>().ok())?;
            name.eq_ignore_ascii_case(kind).then_some(quality)
        });
        offers.fold(0.0, f64::max)
    };
    let wanted = quality("application/openmetrics-text");
    wanted > 0.0 && wanted >= quality("text/plain")
}

/// Of a counter's family: its samples alone end in `_total`.
pub(super) fn family_name(name: &str, is_counter: bool) -> &str {
    if is_counter { name.strip_suffix("_total").unwrap_or(name) } else { name }
}

/// A number as OpenMetrics wants it in `le`: never without a point.
pub(super) fn edge(edge: f64) -> String {
    format!("{edge:?}")
}

/// A page in the text format that has no histograms.
pub(super) fn converted(text: &str) -> String {
    let mut page = String::with_capacity(text.len());
    // OpenMetrics knows no empty lines.
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
            Some((word @ ("HELP" | "TYPE"), rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let is_counter = text.contains(&format!("# TYPE {name} counter\n"));
                let name = family_name(name, is_counter);
                // Writing to a string cannot fail.
                let _ = writeln!(page, "# {word} {name} {}", rest.replace('"', "\\\""));
            }
            _ => {
                page.push_str(line);
                page.push('\n');
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_it_gets_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,\
                          application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, wanted) in [
            (prometheus, true),
            ("Application/OpenMetrics-Text", true),
            ("", false),
            ("*/*", false),
            ("text/plain", false),
            ("application/openmetrics-text;q=0", false),
            ("application/openmetrics-text;q=0.3, text/plain", false),
            ("application/openmetrics-text;q=odd", false),
        ] {
            assert_eq!(is_wanted(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn families_of_counters_lose_their_ending() {
        let text = "# HELP a_total Some \"a\".\n# TYPE a_total counter\na_total 1\n\n\
                    # HELP b B.\n# TYPE b gauge\nb{c=\"d\"} 2\n";
        let expected = "# HELP a Some \\\"a\\\".\n# TYPE a counter\na_total 1\n\
                        # HELP b B.\n# TYPE b gauge\nb{c=\"d\"} 2\n";
        assert_eq!(converted(text), expected);
        assert_eq!([edge(10.0), edge(0.0005), edge(2.5)], ["10.0", "0.0005", "2.5"]);
    }
}
