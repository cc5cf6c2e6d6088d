//! Metrics as text: the format of Prometheus, and OpenMetrics.
//!
//! Bounds are written the same in both, so that a series does not change its
//! labels with the format. `_created` is left out: Prometheus would make one more
//! series of each.

use std::collections::BTreeMap;
use std::fmt::Write;

use serin_proxy::exemplars::ExemplarReading;

use super::page::{Family, Kind, Shown, Sink};

pub const PROMETHEUS: &str = "text/plain; version=0.0.4";
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Families by name, so that each appears once.
#[derive(Default)]
pub struct Text {
    families: BTreeMap<&'static str, (Family, String)>,
    has_exemplars: bool,
}

impl Text {
    /// As only OpenMetrics has them.
    pub fn with_exemplars() -> Text {
        Text { has_exemplars: true, ..Text::default() }
    }

    fn of(&mut self, family: Family) -> &mut String {
        &mut self.families.entry(family.name).or_insert_with(|| (family, String::new())).1
    }

    pub fn into_prometheus(self) -> String {
        let mut page = String::new();
        for (name, (family, lines)) in self.families {
            let _ =
                writeln!(page, "# HELP {name} {}", family.help.replace('\\', "\\\\").replace('\n', "\\n"));
            let _ = writeln!(page, "# TYPE {name} {}", family.kind.as_str());
            page += &lines;
        }
        page
    }

    /// There a counter's samples are named `_total` after its family. One that is
    /// not, or whose family would be another's, is of unknown type.
    pub fn into_open_metrics(self) -> String {
        let mut page = String::new();
        let names: Vec<&str> = self.families.keys().copied().collect();
        for (name, (family, lines)) in self.families {
            let base = name.strip_suffix("_total").filter(|base| !names.contains(base));
            let (name, kind) = match (family.kind, base) {
                (Kind::Counter, Some(base)) => (base, "counter"),
                (Kind::Counter, None) => (name, "unknown"),
                (kind, _) => (name, kind.as_str()),
            };
            let _ = writeln!(page, "# HELP {name} {}", escaped(family.help));
            let _ = writeln!(page, "# TYPE {name} {kind}");
            page += &lines;
        }
        page + "# EOF\n"
    }
}

impl Sink for Text {
    fn number(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        let lines = self.of(family);
        line(lines, [family.name, ""], labels, value);
    }

    fn histogram(&mut self, family: Family, labels: &[(&str, &str)], shown: &Shown<'_>) {
        let exemplars = if self.has_exemplars { shown.exemplified() } else { Vec::new() };
        let lines = self.of(family);
        let edges = shown.edges.iter().map(|edge| edge.text.as_str()).chain(["+Inf"]);
        let below = shown.below.iter().copied().chain([shown.count]);
        for (bucket, (edge, below)) in edges.zip(below).enumerate() {
            let labels = labels.iter().copied().chain([("le", edge)]);
            sample(lines, [family.name, "_bucket"], labels, below as f64);
            if let Some(Some(exemplar)) = exemplars.get(bucket) {
                let (id, seconds) = (id_of(exemplar), exemplar.us as f64 / 1e6);
                let _ =
                    write!(lines, " # {{{REQUEST_ID}=\"{id}\"}} {seconds} {}", exemplar.unix_ms as f64 / 1e3);
            }
            lines.push('\n');
        }
        line(lines, [family.name, "_sum"], labels, shown.sum);
        line(lines, [family.name, "_count"], labels, shown.count as f64);
    }
}

/// Ends without the end of the line, so that more may follow the value.
pub fn sample<'a>(
    lines: &mut String,
    name: [&str; 2],
    labels: impl Iterator<Item = (&'a str, &'a str)>,
    value: f64,
) {
    lines.push_str(name[0]);
    lines.push_str(name[1]);
    let mut open = '{';
    for (name, value) in labels.filter(|(_, value)| !value.is_empty()) {
        lines.push(open);
        lines.push_str(name);
        lines.push_str("=\"");
        lines.push_str(&escaped(value));
        lines.push('"');
        open = ',';
    }
    if open == ',' {
        lines.push('}');
    }
    let _ = match value {
        value if value.is_nan() => write!(lines, " NaN"),
        f64::INFINITY => write!(lines, " +Inf"),
        f64::NEG_INFINITY => write!(lines, " -Inf"),
        value => write!(lines, " {value}"),
    };
}

/// The label of an exemplar.
pub const REQUEST_ID: &str = "request_id";

/// As it stood in the request's `x-request-id`.
pub fn id_of(exemplar: &ExemplarReading) -> String {
    String::from_utf8_lossy(&serin_proxy::request_id(exemplar.id)).into_owned()
}

fn line(lines: &mut String, name: [&str; 2], labels: &[(&str, &str)], value: f64) {
    sample(lines, name, labels.iter().copied(), value);
    lines.push('\n');
}

fn escaped(text: &str) -> std::borrow::Cow<'_, str> {
    match text.contains(['\\', '"', '\n']) {
        true => text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into(),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Page;
    use super::*;

    fn text() -> Text {
        let mut text = Text::default();
        let mut page = Page(&mut text);
        page.counter("a_total", "Things.", &[("x", "q\"\\\n"), ("none", "")], 3);
        page.gauge("b", "One.", &[], f64::INFINITY);
        page.counter("b_total", "Others.", &[], 1);
        page.counter("c", "No suffix.", &[], 0);
        text
    }

    #[test]
    fn open_metrics_name_families_without_the_suffix_where_they_can() {
        assert_eq!(
            text().into_open_metrics(),
            "# HELP a Things.\n# TYPE a counter\na_total{x=\"q\\\"\\\\\\n\"} 3\n\
             # HELP b One.\n# TYPE b gauge\nb +Inf\n\
             # HELP b_total Others.\n# TYPE b_total unknown\nb_total 1\n\
             # HELP c No suffix.\n# TYPE c unknown\nc 0\n# EOF\n"
        );
    }

    #[test]
    fn prometheus_text_names_them_as_they_are() {
        assert!(
            text().into_prometheus().starts_with("# HELP a_total Things.\n# TYPE a_total counter\na_total{")
        );
    }
}
