//! Prometheus' text exposition format, version 0.0.4.

use crate::{live::HistogramTotals, spec::EXPORT_EDGES_SECONDS};
use std::fmt::{Display, Write};

/// A page under construction. A family is opened once, then gets all its samples.
#[derive(Default)]
pub(super) struct Page(String);

#[derive(Clone, Copy)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// An open family.
pub(super) struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    pub(super) fn family(&mut self, name: &'static str, kind: Type, help: &str) -> Family<'_> {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        append(&mut self.0, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: &mut self.0, name }
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// The cumulative buckets, the sum and the count.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, totals: &HistogramTotals) {
        let mut below = 0;
        for (index, count) in totals.buckets.iter().enumerate() {
            below += count;
            let edge = EXPORT_EDGES_SECONDS.get(index).map(f64::to_string);
            self.line("_bucket", labels, Some(edge.as_deref().unwrap_or("+Inf")), below);
        }
        self.line("_sum", labels, None, totals.sum_seconds);
        self.line("_count", labels, None, below);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, le: Option<&str>, value: impl Display) {
        append(self.page, format_args!("{}{suffix}", self.name));
        let all = labels.iter().copied().chain(le.map(|edge| ("le", edge)));
        let mut separator = '{';
        for (name, label) in all {
            append(self.page, format_args!("{separator}{name}=\""));
            escape(self.page, label);
            self.page.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.page.push('}');
        }
        append(self.page, format_args!(" {value}\n"));
    }
}

fn append(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("writing to a string cannot fail");
}

fn escape(page: &mut String, label: &str) {
    for c in label.chars() {
        match c {
            '\\' => page.push_str("\\\\"),
            '"' => page.push_str("\\\""),
            '\n' => page.push_str("\\n"),
            c => page.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_labels() {
        let mut page = Page::default();
        let mut family = page.family("x_total", Type::Counter, "What it counts.");
        family.sample(&[], 3);
        family.sample(&[("a", "plain"), ("b", "q\"b\\n\n")], 0.5);
        assert_eq!(
            page.into_string(),
            "# HELP x_total What it counts.\n# TYPE x_total counter\nx_total 3\n\
             x_total{a=\"plain\",b=\"q\\\"b\\\\n\\n\"} 0.5\n"
        );
    }

    #[test]
    fn histograms_are_cumulative_and_end_at_infinity() {
        let mut totals = HistogramTotals { sum_seconds: 11.5, ..HistogramTotals::default() };
        totals.buckets[0] = 2;
        totals.buckets[1] = 1;
        totals.buckets[17] = 1;
        let mut page = Page::default();
        page.family("x_seconds", Type::Histogram, "Time.").histogram(&[("a", "b")], &totals);
        let text = page.into_string();
        assert!(text.contains("x_seconds_bucket{a=\"b\",le=\"0.0005\"} 2\n"), "{text}");
        assert!(text.contains("x_seconds_bucket{a=\"b\",le=\"0.001\"} 3\n"), "{text}");
        assert!(text.contains("x_seconds_bucket{a=\"b\",le=\"10\"} 3\n"), "{text}");
        let end = "le=\"+Inf\"} 4\nx_seconds_sum{a=\"b\"} 11.5\nx_seconds_count{a=\"b\"} 4\n";
        assert!(text.ends_with(end), "{text}");
    }
}
