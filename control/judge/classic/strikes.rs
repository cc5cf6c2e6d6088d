//! Failed checks, counted over the whole rollout and never forgiven.
//!
//! At each interval, in this order: is the count at the threshold, then roll back;
//! else check, metric by metric, until one fails. A failed check holds the weight
//! where it is, a passed one lets the rollout go on. So the tick that fills the
//! count does not roll back; the next one does. No value is a failed check. Where
//! somebody else's check has failed since the last tick, that is this tick's, and
//! nothing else is looked at.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::judge::checks::Advice;
use crate::judge::checks::millis;
use crate::judge::samples::Arm;
use crate::judge::samples::Measure;
use crate::judge::samples::Sample;
use crate::judge::samples::Samples;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terms {
    pub interval: Duration,
    /// Failed checks at which it is rolled back; none counts as one.
    pub threshold: u32,
    pub checks: Vec<Check>,
}

/// It passes from `min` to `max`, both included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub name: String,
    pub measure: Measure,
    pub arm: Arm,
    /// How far it looks back.
    pub window: Duration,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Strikes {
    terms: Terms,
    failed: u32,
    /// Checks that passed at the present step, and how many it takes.
    passed: u32,
    needed: u32,
    next_ms: u64,
    /// What the last tick came to.
    last: String,
    /// Somebody else's check that has failed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

enum Found {
    Fits,
    /// What is asked cannot be known of requests such as these.
    Unknown,
    Broken(String),
}

impl Strikes {
    pub fn new(terms: &Terms) -> Strikes {
        Strikes {
            terms: terms.clone(),
            failed: 0,
            passed: 0,
            needed: 1,
            next_ms: terms.interval_ms(),
            last: "no check yet".to_owned(),
            refused: None,
        }
    }

    /// A step takes as many passed checks as its time has intervals.
    pub fn arrive(&mut self, hold: Duration) {
        self.passed = 0;
        let intervals = millis(hold).div_ceil(self.terms.interval_ms());
        self.needed = u32::try_from(intervals).unwrap_or(u32::MAX).max(1);
    }

    pub fn look(&mut self, now_ms: u64, samples: &Samples) -> Advice {
        if now_ms < self.next_ms {
            return Advice::Wait;
        }
        // Ticks that were missed are dropped.
        let every = self.terms.interval_ms();
        let due = now_ms - (now_ms - self.next_ms) % every;
        self.next_ms = due + every;
        self.tick(due, samples)
    }

    pub fn refuse(&mut self, why: &str) {
        self.refused.get_or_insert_with(|| why.to_owned());
    }

    pub fn charge(&mut self, failed: u32) {
        self.failed += failed;
    }

    pub fn failed(&self) -> (u32, u32) {
        (self.failed, self.terms.threshold.max(1))
    }

    pub fn last(&self) -> &str {
        &self.last
    }

    fn tick(&mut self, due: u64, samples: &Samples) -> Advice {
        let (failed, threshold) = self.failed();
        if failed >= threshold {
            self.last = format!("failed checks threshold reached {threshold}");
            return Advice::RollBack(self.last.clone());
        }
        let mut unknown = Vec::new();
        let broken = self.refused.take().or_else(|| {
            self.terms.checks.iter().find_map(|check| match check.look(due, samples) {
                Found::Broken(why) => Some(why),
                Found::Unknown => {
                    unknown.push(check.name.as_str());
                    None
                }
                Found::Fits => None,
            })
        });
        if let Some(why) = broken {
            self.failed += 1;
            self.last = format!("{why}; failed check {} of {threshold}", self.failed);
            return Advice::Hold(format!("halt: {}", self.last));
        }
        self.passed += 1;
        self.last = format!("check passed, {} of {} at this step", self.passed, self.needed);
        if !unknown.is_empty() {
            self.last.push_str(&format!("; of copies no {} is known", unknown.join(", ")));
        }
        if self.passed >= self.needed { Advice::Advance } else { Advice::Wait }
    }
}

impl Terms {
    fn interval_ms(&self) -> u64 {
        millis(self.interval).max(1)
    }
}

impl Check {
    fn look(&self, due: u64, samples: &Samples) -> Found {
        let from = due.saturating_sub(millis(self.window));
        let sample = samples.measure(&self.measure, self.arm, from, due);
        match &sample {
            Sample::Error(text) => return Found::Broken(format!("{}: {text}", self.name)),
            Sample::Unknown => return Found::Unknown,
            _ => {}
        }
        let value = self.whole(sample.number());
        if value.is_nan() {
            return Found::Broken(format!("no values found for {}", self.name));
        }
        let min = self.min.map(|min| self.whole(min)).filter(|min| value < *min);
        let max = self.max.map(|max| self.whole(max)).filter(|max| value > *max);
        let below = min.map(|min| format!("{} {value:.2} < {min}", self.name));
        let above = max.map(|max| format!("{} {value:.2} > {max}", self.name));
        below.or(above).map_or(Found::Fits, Found::Broken)
    }

    /// Durations are compared in whole milliseconds, the bounds like the value.
    fn whole(&self, value: f64) -> f64 {
        if self.measure.is_latency() { value.trunc() } else { value }
    }
}
