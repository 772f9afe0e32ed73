//! Prometheus' text exposition format, version 0.0.4, and OpenMetrics 1.0.

use super::openmetrics;
use crate::{
    live::{Exemplar, HistogramTotals},
    spec::EXPORT_EDGES_SECONDS,
};
use std::fmt::{Display, Write};

/// A page under construction. A family is opened once, then gets all its samples.
#[derive(Default)]
pub(super) struct Page {
    text: String,
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::admin) enum Format {
    #[default]
    Text,
    /// With exemplars.
    OpenMetrics,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

/// An open family.
pub(super) struct Family<'a> {
    page: &'a mut String,
    format: Format,
    name: &'static str,
}

pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    pub(super) fn family(&mut self, name: &'static str, kind: Type, help: &str) -> Family<'_> {
        let format = self.format;
        let of_family = match format {
            Format::Text => name,
            Format::OpenMetrics => openmetrics::family_name(name, kind == Type::Counter),
        };
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let page = &mut self.text;
        append(page, format_args!("# HELP {of_family} {help}\n# TYPE {of_family} {kind}\n"));
        Family { page, format, name }
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value, None);
    }

    /// The cumulative buckets, the sum and the count.
    pub(super) fn histogram(&mut self, labels: Labels<'_>, totals: &HistogramTotals) {
        self.histogram_with(labels, totals, &[]);
    }

    /// The same with what buckets have an exemplar of, if the page can say so.
    pub(super) fn histogram_with(
        &mut self,
        labels: Labels<'_>,
        totals: &HistogramTotals,
        exemplars: &[Option<Exemplar>],
    ) {
        let mut below = 0;
        for (index, count) in totals.buckets.iter().enumerate() {
            below += count;
            let edge = EXPORT_EDGES_SECONDS.get(index).map(|edge| match self.format {
                Format::Text => edge.to_string(),
                Format::OpenMetrics => openmetrics::edge(*edge),
            });
            let exemplar = exemplars.get(index).copied().flatten();
            let edge = Some(edge.as_deref().unwrap_or("+Inf"));
            self.line("_bucket", labels, edge, below, exemplar);
        }
        self.line("_sum", labels, None, totals.sum_seconds, None);
        self.line("_count", labels, None, below, None);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        le: Option<&str>,
        value: impl Display,
        exemplar: Option<Exemplar>,
    ) {
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
        append(self.page, format_args!(" {value}"));
        if let (Format::OpenMetrics, Some(Exemplar { trace, seconds, at })) =
            (self.format, exemplar)
        {
            let (at, millis) = (at / 1_000_000_000, at / 1_000_000 % 1000);
            append(
                self.page,
                format_args!(" # {{trace_id=\"{trace:032x}\"}} {seconds} {at}.{millis:03}"),
            );
        }
        self.page.push('\n');
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
    fn openmetrics_has_exemplars_and_names_families_otherwise() {
        let mut page = Page::new(Format::OpenMetrics);
        page.family("x_total", Type::Counter, "What it counts.").sample(&[("a", "b")], 3);
        let mut totals = HistogramTotals::default();
        totals.buckets[12] = 1;
        let mut exemplars = vec![None; 13];
        exemplars[12] =
            Some(Exemplar { trace: 0xabc, seconds: 0.8, at: 1_700_000_000_012_345_678 });
        let mut family = page.family("x_seconds", Type::Histogram, "Time.");
        family.histogram_with(&[], &totals, &exemplars);
        let text = page.into_string();
        assert!(
            text.starts_with("# HELP x What it counts.\n# TYPE x counter\nx_total{a=\"b\"} 3\n")
        );
        let line = "x_seconds_bucket{le=\"1.0\"} 1 # {trace_id=\"00000000000000000000000000000abc\"} 0.8 \
                    1700000000.012\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("x_seconds_bucket{le=\"2.5\"} 1\n"), "{text}");
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
