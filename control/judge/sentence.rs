//! The judge's one line to the operator, who reads it at three in the morning:
//! the verdict, what it rests on, and how sure it is.

use serin_proxy::histogram::lower_us;

use super::Cause;
use super::Judge;
use super::Verdict;
use super::evidence::Pairs;
use super::history::History;
use super::logs::excess;
use super::panel::Kind;
use super::panel::Seat;
use super::panel::View;
use super::projection::Boundary;
use super::stage::Check;
use super::stage::Counted;
use super::stage::Outlook;
use super::stratum::Stratum;
use super::tally::Arm;
use super::tally::Tally;

/// Evidence beyond this (e^30) is told as this.
const TELLABLE: f64 = 30.0;

/// The defect that forecasts are about: this many times the primary's failures,
/// and no less than one percent.
const REGRESSION: f64 = 10.0;
const REGRESSION_LEAST: f64 = 0.01;

impl Judge {
    pub fn explain(&self, verdict: Verdict, history: &History) -> String {
        if let Some(suspicion) = &self.suspicion
            && let Verdict::Suspend | Verdict::Hold(Cause::Shared) = verdict
        {
            return match verdict {
                Verdict::Suspend => {
                    format!("SUSPEND (confirming): {}; a primary beside it will tell", suspicion.told())
                }
                _ => format!("HOLD (shared): {}; beside one it was no worse", suspicion.told()),
            };
        }
        let view = if verdict == Verdict::Suspend { View::Raw } else { View::Capped };
        let slow = self.panel.loudest(view).is_some_and(|seat| self.is_about_time(seat.kind, history));
        let loudest = self.panel.loudest(view).map(|seat| seat.kind);
        let (word, reason) = match verdict {
            Verdict::Rollback if loudest == Some(Kind::Answers) => ("ROLLBACK", "answers differ"),
            Verdict::Rollback => ("ROLLBACK", if slow { "slower" } else { "worse" }),
            Verdict::Hold(Cause::Shared) => ("HOLD", "shared"),
            Verdict::Hold(Cause::Coin) => return self.explain_coin(),
            Verdict::Suspend => ("SUSPEND", "confirming"),
            Verdict::Continue => ("CONTINUE", "undecided"),
        };
        let part = self.panel.loudest(view).and_then(Seat::stratum);
        let facts = match (slow && verdict != Verdict::Continue, self.times(history)) {
            (true, Some(times)) => times,
            _ if verdict != Verdict::Continue && part.is_some() => part.map(told).unwrap_or_default(),
            _ if loudest == Some(Kind::Mirrored) && verdict != Verdict::Continue => self.pairs(),
            _ if loudest == Some(Kind::Answers) && verdict != Verdict::Continue => self.tally.answers(),
            _ if self.tally.canary.requests == 0 && self.tally.pairs.all() > 0 => self.pairs(),
            _ => self.failures(),
        };
        let evidence = significant(self.log_e(view).min(TELLABLE).exp());
        let needed = significant_zero(1.0 / self.alpha);
        format!("{word} ({reason}): {facts}; evidence {evidence}:1, rollback at {needed}:1")
    }

    /// How long a clear regression could stay hidden, at the present pace.
    pub fn forecast(&self, w: f64, pace: f64, history: &History) -> Option<String> {
        let (rho, delta) = self.panel.failures()?.limits();
        let pace = pace / w;
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

    /// Why the canary may pass.
    pub fn explain_promotion(&self, w: f64) -> String {
        let Some(stage) = &self.stage else { return String::new() };
        let evidence = significant(stage.log_e(w).unwrap_or(0.0).min(TELLABLE).exp());
        let needed = significant_zero(stage.needed().exp());
        let seen = match percent(self.tally.primary) {
            _ if self.tally.canary.requests == 0 => self.pairs(),
            primary => format!("canary {} failed, primary {primary}", percent(self.tally.canary)),
        };
        let shown = shown(stage.asked_at(w)).join(" and ");
        format!(
            "ADVANCE (good enough): {seen}; evidence {evidence}:1 that the canary stays {shown}, needed {needed}:1"
        )
    }

    /// What is missing until it may, and how long that takes; then how long a clear
    /// regression could stay hidden.
    pub fn explain_outlook(&self, outlook: &Outlook, w: f64, pace: f64, history: &History) -> String {
        let rate = significant(outlook.pace);
        let check = check_of(outlook);
        let what = match outlook.counted {
            Counted::Requests => "canary requests",
            Counted::Users => "users new to the canary",
            Counted::Copies => "copies",
        };
        let missing = match (outlook.missing, outlook.eta) {
            (Some(missing), Some(eta)) => format!(
                "at {rate} {what}/s {check} needs about {} more ({missing} {what})",
                span(eta.as_secs_f64())
            ),
            (Some(missing), None) => format!("{check} needs {missing} more {what}, and none come"),
            (None, _) if outlook.kind == Kind::RelativeLatency && history.latency().buckets().is_empty() => {
                format!("{check} knows no latencies of the primary yet")
            }
            (None, _) => format!("{check} cannot be passed by what the canary has shown so far"),
        };
        match self.forecast(w, pace, history) {
            Some(forecast) => format!("{missing}; {forecast}"),
            None => missing,
        }
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

    fn pairs(&self) -> String {
        let Pairs { canary_only, primary_only, .. } = self.tally.pairs;
        format!(
            "of {} mirrored requests the canary alone failed {canary_only}, the primary alone {primary_only}",
            self.tally.pairs.all()
        )
    }

    fn failures(&self) -> String {
        let Tally { canary, primary, explained, .. } = &self.tally;
        shares(*canary, *primary, *explained)
    }

    /// To the relative latency test a failure is slowest of all, so what it has
    /// against the canary may be failures and no slow answer at all.
    fn is_about_time(&self, kind: Kind, history: &History) -> bool {
        match kind {
            Kind::RelativeFailures | Kind::Mirrored | Kind::Answers | Kind::Stratum | Kind::Success => false,
            Kind::Latency => true,
            Kind::RelativeLatency => {
                let Arm { requests, failures, .. } = self.tally.canary;
                let answers =
                    self.panel.slowness().map_or(0.0, |test| test.speaks(self.tally.latency(), requests));
                answers >= excess(failures, requests, history.failure_rate())
            }
        }
    }

    fn times(&self, history: &History) -> Option<String> {
        let canary = self.tally.latency();
        let primary = history.latency().buckets();
        let ms = |buckets, q| Some(self.milliseconds(quantile(buckets, q)?));
        Some(format!(
            "the canary's answers take {} ms (p50) and {} ms (p99), the primary's {} ms and {} ms",
            ms(canary, 0.5)?,
            ms(canary, 0.99)?,
            ms(primary, 0.5)?,
            ms(primary, 0.99)?,
        ))
    }

    /// What was revealed while under way has taken this long, and goes on.
    fn milliseconds(&self, bucket: usize) -> String {
        let (from, until) = (lower_us(bucket), lower_us(bucket + 1));
        if self.tally.revealed_from_us().is_some_and(|mark| from >= mark) {
            return format!("at least {}", significant(from as f64 / 1000.0));
        }
        significant((from + until) as f64 / 2000.0)
    }
}

/// Whose failures they were, and what the coin would have had.
fn shares(canary: Arm, primary: Arm, explained: f64) -> String {
    format!(
        "{} of {} failures hit the canary, its traffic share explains {explained:.1} \
         (canary {} failed, primary {})",
        canary.failures,
        canary.failures + primary.failures,
        percent(canary),
        percent(primary),
    )
}

/// The same of one part of the traffic.
fn told(part: &Stratum) -> String {
    format!("in {} alone, {}", part.name, shares(part.canary, part.primary, part.explained))
}

/// The check in the operator's words.
fn check_of(outlook: &Outlook) -> String {
    let points = significant(100.0 * outlook.boundary.delta);
    match outlook.kind {
        Kind::RelativeFailures => format!("the +{points} pp check"),
        Kind::RelativeLatency => "the check of the slowest hundredth".to_owned(),
        Kind::Mirrored => format!("the {points} % check of copies"),
        Kind::Answers => "the comparison of answers".to_owned(),
        Kind::Stratum => "the check of a part of the traffic".to_owned(),
        Kind::Success => format!("the {} % objective", significant(100.0 * (1.0 - outlook.boundary.delta))),
        Kind::Latency => "the latency objective".to_owned(),
    }
}

/// What a canary that is good enough stays within.
fn shown<'a>(checks: impl Iterator<Item = &'a Check>) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    let mut of_primary = |check: &Check, end: &str| {
        let Boundary { rho, delta } = check.boundary();
        let within = format!("within {}x + {:.2} pp of the primary", significant(rho), 100.0 * delta);
        match shown.last_mut() {
            Some(last) if *last == within => last.push_str(", in failures and in slow answers,"),
            _ => shown.push(within + end),
        }
    };
    let mut objectives = Vec::new();
    for check in checks {
        let least = significant_four(100.0 * (1.0 - check.boundary().delta));
        match check.kind {
            Kind::RelativeFailures => of_primary(check, ""),
            Kind::RelativeLatency | Kind::Answers | Kind::Stratum => of_primary(check, " in slow answers"),
            Kind::Mirrored => {
                let most = significant(100.0 * check.boundary().delta);
                objectives.push(format!("below {most} % of copies that it alone fails"));
            }
            Kind::Success => objectives.push(format!("inside the {least}% objective")),
            Kind::Latency => objectives.push(format!("inside the latency objective for {least}%")),
        }
    }
    shown.extend(objectives);
    shown
}

fn percent(arm: Arm) -> String {
    arm.percent().map_or("n/a".to_owned(), |percent| format!("{percent:.2}%"))
}

/// The bucket in which the quantile lies.
fn quantile(buckets: &[(u32, u64)], q: f64) -> Option<usize> {
    let count: u64 = buckets.iter().map(|(_, n)| n).sum();
    let rank = (q * count as f64).ceil();
    let mut seen = 0;
    let (bucket, _) = buckets.iter().find(|(_, n)| {
        seen += n;
        seen as f64 >= rank
    })?;
    Some(*bucket as usize)
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

/// As `%.4g` of C, for values from 1 to 100.
fn significant_four(value: f64) -> String {
    let text = format!("{:.*}", if value < 10.0 { 3 } else { 2 }, value);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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
    use std::time::Duration;

    use serin_proxy::histogram::index;

    use super::*;
    use crate::clock::Moment;
    use crate::judge::analysis::Analysis;
    use crate::judge::analysis::RelativeFailures;
    use crate::judge::analysis::SuccessObjective;
    use crate::judge::evidence::ArmDelta;
    use crate::judge::evidence::Evidence;
    use crate::judge::evidence::GenerationDelta;

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

    /// Answers that took so many microseconds, and failures beside them.
    fn arm(answers: &[(u64, u64)], failed: u64) -> ArmDelta {
        let ok: u64 = answers.iter().map(|(_, n)| n).sum();
        let latency = answers.iter().map(|(us, n)| (index(*us) as u32, *n)).collect();
        ArmDelta { dispatched: ok + failed, ok, failed, latency, ..ArmDelta::default() }
    }

    fn evidence(canary: ArmDelta, primary: ArmDelta) -> Evidence {
        let delta = GenerationDelta { id: 1, w: 0.1, canary, primary, ..GenerationDelta::default() };
        Evidence { generations: vec![delta], ..Evidence::default() }
    }

    /// Ticks of a canary like this, beside a primary that answers in 10 to 40 ms,
    /// until the judge is certain; its sentence of then.
    fn verdict_on(analysis: &Analysis, canary: &ArmDelta) -> String {
        let primary = arm(&[(10_000, 450), (20_000, 400), (40_000, 50)], 0);
        let (mut history, mut now) = (History::default(), Moment(1_000));
        for _ in 0..50 {
            now = now.after(Duration::from_millis(100));
            history.observe(now, &evidence(ArmDelta::default(), primary.clone()));
        }
        let mut judge = Judge::new(analysis, Duration::from_secs(600), &history, now);
        for _ in 0..500 {
            now = now.after(Duration::from_millis(100));
            let evidence = evidence(canary.clone(), primary.clone());
            judge.observe(now, &evidence, &history);
            history.observe(now, &evidence);
            if judge.decide() == Verdict::Rollback {
                let leads = judge.panel.loudest(View::Capped).expect("there are tests").kind;
                assert_eq!(leads, Kind::RelativeLatency, "else this says nothing");
                return judge.explain(Verdict::Rollback, &history);
            }
        }
        panic!("no rollback: {}", judge.explain(judge.clone().decide(), &history));
    }

    #[test]
    fn failures_in_the_slowest_category_are_told_as_failures() {
        let canary = arm(&[(10_000, 45), (20_000, 40), (40_000, 5)], 10);
        let alone = Analysis { relative_failures: None, ..Analysis::default() };
        let tolerant = RelativeFailures { rho: 1.2, delta: 0.05, share: 0.4 };
        let beside = Analysis { relative_failures: Some(tolerant), ..Analysis::default() };
        let success = Some(SuccessObjective { min: 0.99, share: SuccessObjective::SHARE });
        let promised = Analysis { success, ..alone.clone() };
        for analysis in [alone, beside, promised] {
            let sentence = verdict_on(&analysis, &canary);
            assert!(sentence.starts_with("ROLLBACK (worse): "), "{sentence}");
            assert!(sentence.contains(" failures hit the canary, "), "{sentence}");
        }
    }

    #[test]
    fn a_trial_speaks_of_those_who_are_on_it() {
        let (history, now) = (History::default(), Moment(1_000));
        let mut judge = Judge::new(&Analysis::default(), Duration::from_secs(600), &history, now);
        let matched = GenerationDelta {
            id: 1,
            w: 0.5,
            canary: arm(&[(10_000, 9)], 1),
            primary: arm(&[(10_000, 8)], 2),
            ..GenerationDelta::default()
        };
        let others = GenerationDelta { w: 0.0, canary: ArmDelta::default(), ..matched.clone() };
        let generations = vec![matched, GenerationDelta { primary: arm(&[], 500), ..others }];
        judge.observe(now, &Evidence { generations, ..Evidence::default() }, &history);
        let sentence = judge.explain(Verdict::Continue, &history);
        assert!(sentence.contains("1 of 3 failures hit the canary"), "{sentence}");
        assert!(sentence.contains("primary 20.00%"), "{sentence}");
    }

    #[test]
    fn a_slow_canary_that_also_fails_a_little_is_told_as_slow() {
        let canary = arm(&[(30_000, 90), (60_000, 9)], 1);
        let analysis = Analysis { relative_failures: None, ..Analysis::default() };
        let sentence = verdict_on(&analysis, &canary);
        assert!(sentence.starts_with("ROLLBACK (slower): the canary's answers take 30"), "{sentence}");
    }

    #[test]
    fn a_request_revealed_under_way_took_at_least_so_long() {
        // The primary's slowest lie near 40 ms, so what is revealed is older.
        let canary = arm(&[(20_000, 90), (70_000, 10)], 0);
        let sentence = verdict_on(&Analysis::default(), &canary);
        assert!(sentence.contains(" ms (p50) and at least 69.6 ms (p99), the primary's "), "{sentence}");
        assert!(!sentence.contains("take at least"), "{sentence}");
        assert_eq!(sentence.matches("at least").count(), 1, "{sentence}");
    }
}
