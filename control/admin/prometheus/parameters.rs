//! Parameters of the query API, from the path's query and from a form, and what
//! Prometheus says of wrong ones.

use std::time::Duration;

use jiff::Timestamp;
use promql_parser::label::Matchers;

use super::Trouble;
use crate::query;

const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// What a form says comes first, as in Go.
    pub fn read(query: Option<&str>, form: &[u8]) -> Parameters {
        let pairs = |bytes| form_urlencoded::parse(bytes).into_owned();
        Parameters(pairs(form).chain(pairs(query.unwrap_or_default().as_bytes())).collect())
    }

    pub fn all<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Milliseconds since the epoch, from seconds or from RFC 3339.
    pub fn time(&self, name: &str) -> Result<Option<i64>, Trouble> {
        match self.first(name).filter(|text| !text.is_empty()) {
            Some(text) => match moment(text) {
                Some(moment) => Ok(Some(moment)),
                None => {
                    let text = format!(
                        "Invalid time value for '{name}': cannot parse {text:?} to a valid timestamp"
                    );
                    Err(invalid(name, &text))
                }
            },
            None => Ok(None),
        }
    }

    pub fn need_time(&self, name: &str) -> Result<i64, Trouble> {
        let text = self.first(name).unwrap_or_default();
        let said = format!("cannot parse {text:?} to a valid timestamp");
        moment(text).ok_or_else(|| invalid(name, &said))
    }

    pub fn step(&self) -> Result<i64, Trouble> {
        let step = self.duration("step", self.first("step").unwrap_or_default())?;
        if step <= 0.0 {
            let text =
                "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(invalid("step", text));
        }
        // Shorter than a moment can be told apart.
        Ok(((step * 1000.0) as i64).max(1))
    }

    /// How long a query may take: as long as ours may, or shorter.
    pub fn timeout(&self) -> Result<Duration, Trouble> {
        match self.first("timeout").filter(|text| !text.is_empty()) {
            Some(text) => {
                let seconds = self.duration("timeout", text)?.clamp(0.0, TIMEOUT.as_secs_f64());
                Ok(Duration::from_secs_f64(seconds))
            }
            None => Ok(TIMEOUT),
        }
    }

    pub fn selectors(&self) -> Result<Vec<Matchers>, Trouble> {
        let selector = |text| query::selector(text).map_err(|error| invalid("match[]", &error.to_string()));
        self.all("match[]").map(selector).collect()
    }

    /// In seconds; a number, or as PromQL has it.
    fn duration(&self, name: &str, text: &str) -> Result<f64, Trouble> {
        let seconds = match text.parse::<f64>() {
            Ok(seconds) => Some(seconds),
            Err(_) => promql_parser::util::parse_duration(text).ok().map(|duration| duration.as_secs_f64()),
        };
        match seconds.filter(|seconds| seconds.abs() < 1e12) {
            Some(seconds) => Ok(seconds),
            None => Err(invalid(name, &format!("cannot parse {text:?} to a valid duration"))),
        }
    }
}

pub fn invalid(name: &str, text: &str) -> Trouble {
    Trouble::BadData(format!("invalid parameter {name:?}: {text}"))
}

fn moment(text: &str) -> Option<i64> {
    match text.parse::<f64>() {
        Ok(seconds) => (seconds.abs() < 1e13).then(|| (seconds * 1000.0).round() as i64),
        Err(_) => text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond),
    }
}

pub fn is_label(name: &str) -> bool {
    query::is_label(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T: std::fmt::Debug>(result: Result<T, Trouble>) -> String {
        match result {
            Err(Trouble::BadData(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn moments_and_durations_are_read_as_prometheus_reads_them() {
        let read = |query| Parameters::read(Some(query), b"");
        assert_eq!(read("time=1435781451.781").time("time").unwrap(), Some(1_435_781_451_781));
        assert_eq!(read("time=2015-07-01T20:10:51.781Z").time("time").unwrap(), Some(1_435_781_451_781));
        assert_eq!(read("time=2015-07-01T20:10:51%2B00:00").time("time").unwrap(), Some(1_435_781_451_000));
        assert_eq!(read("step=1m30s").step().unwrap(), 90_000);
        assert_eq!(read("step=0.25").step().unwrap(), 250);
        assert_eq!(read("timeout=5s").timeout().unwrap(), Duration::from_secs(5));
        assert_eq!(read("timeout=5h").timeout().unwrap(), TIMEOUT);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_prometheus() {
        let read = |query| Parameters::read(Some(query), b"");
        assert_eq!(
            said(read("time=x").time("time")),
            "invalid parameter \"time\": Invalid time value for 'time': cannot parse \"x\" to a valid timestamp"
        );
        assert_eq!(
            said(read("").step()),
            "invalid parameter \"step\": cannot parse \"\" to a valid duration"
        );
        assert!(said(read("step=0").step()).contains("zero or negative query resolution step widths"));
        assert!(said(read("time=1e300").time("time")).contains("1e300"));
    }

    #[test]
    fn a_form_comes_before_the_path() {
        let parameters = Parameters::read(Some("query=b&match[]=x"), b"query=a%2Bb&match%5B%5D=y");
        assert_eq!(parameters.first("query"), Some("a+b"));
        assert_eq!(parameters.all("match[]").collect::<Vec<_>>(), ["y", "x"]);
    }
}
