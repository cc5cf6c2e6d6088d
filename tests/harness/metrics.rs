//! Prometheus text read by a parser of our own, strict about what the format asks.

use std::collections::BTreeMap;

/// One scrape.
#[derive(Debug, Default)]
pub struct Scrape {
    pub samples: Vec<Sample>,
    /// Family name to its type.
    pub types: BTreeMap<String, String>,
    pub helps: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn carries(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|own| own == value))
    }
}

impl Scrape {
    /// Panics on a line that is not of the format.
    pub fn parse(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("TYPE has a name and a type");
                let before = scrape.types.insert(name.to_owned(), kind.to_owned());
                assert!(before.is_none(), "family {name} comes twice");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
                scrape.helps.insert(name.to_owned(), help.to_owned());
            } else if !line.starts_with('#') {
                scrape.samples.push(sample(line));
            }
        }
        scrape
    }

    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        // Started from plus zero, since an empty float sum is minus zero.
        self.with(name, labels).fold(0.0, |sum, sample| sum + sample.value)
    }

    pub fn with<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name && sample.carries(labels))
    }
}

fn sample(line: &str) -> Sample {
    try_sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}"))
}

fn try_sample(line: &str) -> Option<Sample> {
    let (name, inner, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (inner, rest) = rest.rsplit_once('}')?;
            (name, inner, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, "", rest)
        }
    };
    let value = match rest.split_whitespace().next()? {
        "+Inf" => f64::INFINITY,
        text => text.parse().ok()?,
    };
    Some(Sample { name: name.to_owned(), labels: labels(inner), value })
}

fn labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while let Some((name, rest)) = text.split_once("=\"") {
        let (mut value, mut escaped, mut end) = (String::new(), false, rest.len());
        for (index, letter) in rest.char_indices() {
            match letter {
                '"' if !escaped => {
                    end = index;
                    break;
                }
                '\\' if !escaped => escaped = true,
                letter => {
                    value.push(if escaped && letter == 'n' { '\n' } else { letter });
                    escaped = false;
                }
            }
        }
        labels.insert(name.trim_matches([',', ' ']).to_owned(), value);
        text = rest.get(end + 1..).unwrap_or_default();
    }
    labels
}

#[test]
fn samples_are_read_with_labels_and_without() {
    let text = "# HELP a_total things\n# TYPE a_total counter\na_total{x=\"1\",y=\"a\\\"b\"} 3\na_total{x=\"2\"} 4\nb 1e3\n";
    let scrape = Scrape::parse(text);
    assert_eq!(scrape.sum("a_total", &[]), 7.0);
    assert_eq!(scrape.sum("a_total", &[("y", "a\"b")]), 3.0);
    assert_eq!(scrape.sum("b", &[]), 1000.0);
    assert_eq!(scrape.types["a_total"], "counter");
}
