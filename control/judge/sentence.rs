//! The judge's one line to the operator, who reads it at three in the morning:
//! the verdict, what it rests on, and how sure it is.

use serin_proxy::histogram::lower_us;

use super::Cause;
use super::Judge;
use super::Verdict;
use super::history::History;
use super::panel::Kind;
use super::panel::View;
use super::projection::Boundary;
use super::tally::Arm;

/// Evidence beyond this (e^30) is told as this.
const TELLABLE: f64 = 30.0;

/// The defect that forecasts are about: this many times the primary's failures,
/// and no less than one percent.
const REGRESSION: f64 = 10.0;
const REGRESSION_LEAST: f64 = 0.01;

impl Judge {
    pub fn explain(&self, verdict: Verdict, history: &History) -> String {
        let view = if verdict == Verdict::Suspend { View::Raw } else { View::Capped };
        let slow = self.panel.loudest(view).is_some_and(|seat| is_about_time(seat.kind));
        let (word, reason) = match verdict {
            Verdict::Rollback => ("ROLLBACK", if slow { "slower" } else { "worse" }),
            Verdict::Hold(Cause::Shared) => ("HOLD", "shared"),
            Verdict::Hold(Cause::Coin) => return self.explain_coin(),
            Verdict::Suspend => ("SUSPEND", "confirming"),
            Verdict::Continue => ("CONTINUE", "undecided"),
        };
        let facts = match (slow && verdict != Verdict::Continue, self.times(history)) {
            (true, Some(times)) => times,
            _ => self.failures(),
        };
        let evidence = significant(self.log_e(view).min(TELLABLE).exp());
        let needed = significant_zero(1.0 / self.alpha);
        format!("{word} ({reason}): {facts}; evidence {evidence}:1, rollback at {needed}:1")
    }

    /// How long a clear regression could stay hidden, at the present pace.
    pub fn forecast(&self, w: f64, history: &History) -> Option<String> {
        let (rho, delta) = self.panel.failures()?.limits();
        let pace = history.requests_per_second();
        if !(w > 0.0 && w < 1.0) || pace <= 0.0 {
            return None;
        }
        let primary = history.failure_rate();
        let canary = (REGRESSION * primary).clamp(REGRESSION_LEAST, 0.9);
        let growth = Boundary { rho, delta }.growth(primary, canary, w);
        let missing = self.needed() - self.log_e(View::Capped);
        if growth <= 0.0 || missing <= 0.0 {
            return None;
        }
        let (percent, time) = (significant(100.0 * canary), span(missing / growth / pace));
        Some(format!("a canary failing {percent} % of requests would show within about {time}"))
    }

    fn explain_coin(&self) -> String {
        let Some(tosses) = self.distrusted() else {
            return "HOLD (routing does not follow the weights)".to_owned();
        };
        let all = tosses.canary + tosses.primary;
        let fair = tosses.w * all as f64;
        format!(
            "HOLD (routing does not follow the weights): the canary was given {} of {all} requests, \
             its weight explains {fair:.0}; no comparison can be trusted",
            tosses.canary
        )
    }

    fn failures(&self) -> String {
        let (canary, primary) = (self.tally.canary, self.tally.primary);
        format!(
            "{} of {} failures hit the canary, its traffic share explains {:.1} \
             (canary {} failed, primary {})",
            canary.failures,
            canary.failures + primary.failures,
            self.tally.explained,
            percent(canary),
            percent(primary),
        )
    }

    fn times(&self, history: &History) -> Option<String> {
        let canary = self.tally.latency();
        let primary = history.latency().buckets();
        let ms = |buckets, q| Some(significant(quantile_us(buckets, q)? / 1000.0));
        Some(format!(
            "the canary's answers take {} ms (p50) and {} ms (p99), the primary's {} ms and {} ms",
            ms(canary, 0.5)?,
            ms(canary, 0.99)?,
            ms(primary, 0.5)?,
            ms(primary, 0.99)?,
        ))
    }
}

fn is_about_time(kind: Kind) -> bool {
    matches!(kind, Kind::RelativeLatency | Kind::Latency)
}

fn percent(arm: Arm) -> String {
    arm.percent().map_or("n/a".to_owned(), |percent| format!("{percent:.2}%"))
}

fn quantile_us(buckets: &[(u32, u64)], q: f64) -> Option<f64> {
    let count: u64 = buckets.iter().map(|(_, n)| n).sum();
    let rank = (q * count as f64).ceil();
    let mut seen = 0;
    let (bucket, _) = buckets.iter().find(|(_, n)| {
        seen += n;
        seen as f64 >= rank
    })?;
    let bucket = *bucket as usize;
    Some((lower_us(bucket) + lower_us(bucket + 1)) as f64 / 2.0)
}

fn span(seconds: f64) -> String {
    let seconds = seconds.ceil().max(1.0);
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7_200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

fn significant_zero(value: f64) -> String {
    format!("{value:.0}")
}

/// Three significant digits, as `%.3g` of C writes them.
pub fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    let scientific = format!("{value:.2e}");
    let (digits, exponent) = scientific.split_once('e').expect("the format just used writes an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a whole number");
    let trim = |text: &str| {
        let cut = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text };
        cut.to_owned()
    };
    if (-4..3).contains(&exponent) {
        let decimals = usize::try_from(2 - exponent).expect("the exponent is at most 2");
        return trim(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(digits), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_read_as_in_c() {
        for (value, text) in [
            (60_012.0, "6e+04"),
            (5_250.4, "5.25e+03"),
            (0.8421, "0.842"),
            (999.7, "1e+03"),
            (12.0, "12"),
            (0.000012, "1.2e-05"),
        ] {
            assert_eq!(significant(value), text);
        }
    }
}
