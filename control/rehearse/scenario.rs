//! What a rehearsal supposes of the traffic and of the release: read from the
//! words of a command line, `errors=2%,latency=x1.5,onset=10m,rps=50`.

use std::time::Duration;

use super::Version;
use super::World;

/// Traffic, a primary, and how the canary differs from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub rps: f64,
    /// Share of the primary's answers that are failures.
    pub baseline: f64,
    pub median_ms: f64,
    pub p99_ms: f64,
    /// The canary's share of failures; as the primary's where nothing is said.
    pub errors: Option<f64>,
    /// All of the canary's answers take so many times as long.
    pub latency: f64,
    /// The same for its p99 alone; the median stays.
    pub tail: f64,
    /// Share of requests that a trial's rules match.
    pub matching: f64,
    /// How long after the start the canary begins to differ.
    pub onset: Duration,
    /// How long an endpoint fails entirely, of either version, every 20 minutes on
    /// average (`blips.rs`); zero: never.
    pub blip: Duration,
    /// Of both versions together; one of them is the canary's.
    pub endpoints: u32,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            rps: 100.0,
            baseline: 0.001,
            median_ms: 50.0,
            p99_ms: 200.0,
            errors: None,
            latency: 1.0,
            tail: 1.0,
            matching: 0.1,
            onset: Duration::ZERO,
            blip: Duration::ZERO,
            endpoints: 10,
        }
    }
}

/// The standard normal distribution's 99th percentile.
const Z99: f64 = 2.326_347_874_040_841;

const WORDS: &str = "rps, baseline, p50, p99, errors, latency, tail, matching, onset, blip and endpoints";

impl Scenario {
    /// Changes what the words say and leaves the rest. Errors name the word.
    pub fn with(&self, words: &str) -> Result<Scenario, String> {
        let mut scenario = self.clone();
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').ok_or_else(|| format!("{word:?} is not KEY=VALUE"))?;
            let wrong = |expected: &str| format!("{key}={value}: expected {expected}");
            match key.trim() {
                "rps" => {
                    let rps = positive(value).filter(|rps| *rps <= MOST_RPS);
                    scenario.rps = rps.ok_or_else(|| wrong("requests per second, up to 1000000"))?;
                }
                "baseline" => scenario.baseline = share(value).ok_or_else(|| wrong("a percentage"))?,
                "errors" => scenario.errors = Some(share(value).ok_or_else(|| wrong("a percentage"))?),
                "p50" => scenario.median_ms = millis(value).ok_or_else(|| wrong("a duration"))?,
                "p99" => scenario.p99_ms = millis(value).ok_or_else(|| wrong("a duration"))?,
                "latency" => scenario.latency = times(value).ok_or_else(|| wrong("a factor such as x1.5"))?,
                "tail" => scenario.tail = times(value).ok_or_else(|| wrong("a factor such as x2"))?,
                "matching" => scenario.matching = share(value).ok_or_else(|| wrong("a percentage"))?,
                "onset" => scenario.onset = duration(value).ok_or_else(|| wrong("a duration"))?,
                "blip" => scenario.blip = duration(value).ok_or_else(|| wrong("a duration"))?,
                "endpoints" => {
                    let endpoints =
                        value.trim().parse().ok().filter(|count| (2..=MOST_ENDPOINTS).contains(count));
                    scenario.endpoints = endpoints.ok_or_else(|| wrong("2 to 1000"))?;
                }
                other => return Err(format!("{other:?} is unknown; there are {WORDS}")),
            }
        }
        if scenario.p99_ms <= scenario.median_ms {
            let (p50, p99) = (scenario.median_ms, scenario.p99_ms);
            return Err(format!("p99={p99}ms must be above p50={p50}ms"));
        }
        Ok(scenario)
    }

    /// A canary that is no worse than the primary.
    pub fn is_healthy(&self) -> bool {
        self.errors.is_none_or(|errors| errors <= self.baseline) && self.latency <= 1.0 && self.tail <= 1.0
    }

    pub fn primary(&self) -> Version {
        let spread = (self.p99_ms / self.median_ms).ln() / Z99;
        Version { failure: self.baseline, median_ms: self.median_ms, spread }
    }

    /// The canary once it has begun to differ.
    pub fn canary(&self) -> Version {
        let primary = self.primary();
        Version {
            failure: self.errors.unwrap_or(self.baseline),
            median_ms: primary.median_ms * self.latency,
            spread: primary.spread + self.tail.ln() / Z99,
        }
    }

    /// How things are so long after the start.
    pub fn world(&self, since_start: Duration) -> World {
        let primary = self.primary();
        let canary = if since_start < self.onset { primary } else { self.canary() };
        World { requests_per_second: self.rps, primary, canary }
    }

    /// In a few words: `errors 0.1 -> 2 %, latency x1.5, after 10m`.
    pub fn describe(&self) -> String {
        let mut words = Vec::new();
        if let Some(errors) = self.errors {
            words.push(format!("errors {} -> {} %", tidy(100.0 * self.baseline), tidy(100.0 * errors)));
        }
        if self.latency != 1.0 {
            words.push(format!("latency x{}", tidy(self.latency)));
        }
        if self.tail != 1.0 {
            words.push(format!("p99 x{}", tidy(self.tail)));
        }
        if words.is_empty() {
            words.push("no worse".to_owned());
        }
        if !self.onset.is_zero() {
            words.push(format!("after {:?}", self.onset));
        }
        if !self.blip.is_zero() {
            words.push(format!("blips of {:?}", self.blip));
        }
        words.join(", ")
    }
}

const MOST_RPS: f64 = 1e6;
const MOST_ENDPOINTS: u32 = 1_000;

fn tidy(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

fn positive(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

/// `2%`, `0.1%`; a bare number is percent too, as in the configuration.
fn share(text: &str) -> Option<f64> {
    let percent: f64 = text.trim().trim_end_matches('%').trim_end().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
}

fn times(text: &str) -> Option<f64> {
    positive(text.trim().trim_start_matches('x')).filter(|factor| *factor <= 1000.0)
}

fn duration(text: &str) -> Option<Duration> {
    let signed: jiff::SignedDuration = text.trim().parse().ok()?;
    Duration::try_from(signed).ok()
}

fn millis(text: &str) -> Option<f64> {
    duration(text).map(|duration| duration.as_secs_f64() * 1000.0).filter(|ms| *ms > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_change_what_they_name() {
        let scenario = Scenario::default().with("errors=2%, latency=x1.5,onset=10m,rps=50").unwrap();
        let expected = Scenario {
            rps: 50.0,
            errors: Some(0.02),
            latency: 1.5,
            onset: Duration::from_secs(600),
            ..Scenario::default()
        };
        assert_eq!(scenario, expected);
        assert_eq!(scenario.describe(), "errors 0.1 -> 2 %, latency x1.5, after 600s");
        assert!(!scenario.is_healthy() && Scenario::default().is_healthy());
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (words, named) in [
            ("errors=200%", "errors"),
            ("rps=0", "rps"),
            ("rps=inf", "rps"),
            ("latency=fast", "latency"),
            ("onset=-1s", "onset"),
            ("blip=often", "blip"),
            ("endpoints=1", "endpoints"),
            ("colour=blue", "colour"),
            ("errors", "errors"),
            ("p50=300ms", "p99"),
        ] {
            let told = Scenario::default().with(words).expect_err(words);
            assert!(told.contains(named), "{words}: {told}");
        }
    }

    #[test]
    fn tail_moves_the_p99_and_nothing_else() {
        let scenario = Scenario::default().with("tail=x2").unwrap();
        let canary = scenario.canary();
        let p99 = canary.median_ms * (Z99 * canary.spread).exp();
        assert!((p99 - 400.0).abs() < 1e-6 && canary.median_ms == 50.0, "{p99}");
    }

    #[test]
    fn before_the_onset_both_are_alike() {
        let scenario = Scenario::default().with("errors=50%,onset=1m").unwrap();
        assert_eq!(scenario.world(Duration::from_secs(59)).canary, scenario.primary());
        assert_eq!(scenario.world(Duration::from_secs(60)).canary.failure, 0.5);
    }
}
