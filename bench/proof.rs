//! Proof before promotion: how many canary requests it takes to show that a good canary is good enough, beside the
//! least possible; and how often one that is just not good enough passes.

use std::fmt::Write;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use serin::clock::Moment;
use serin::judge::analysis::Analysis;
use serin::judge::analysis::Inconclusive;
use serin::judge::analysis::Promotion;
use serin::judge::analysis::RelativeFailures;
use serin::judge::analysis::RelativeLatency;
use serin::judge::analysis::SuccessObjective;
use serin::judge::evidence::Evidence;
use serin::judge::evidence::GenerationDelta;
use serin::judge::history::History;
use serin::judge::projection::Boundary;
use serin::judge::stage;
use serin::judge::stage::Counts;
use serin::judge::stage::Stage;
use serin::rehearse::Version;
use serin::rehearse::crowd;
use serin::rehearse::crowd::Ages;
use serin::rehearse::crowd::Marks;
use serin::rehearse::play::End;
use serin::rehearse::play::play;
use serin::rehearse::scenario::Scenario;
use serin::rollout::Action;
use serin::rollout::EventKind;
use serin_proxy::histogram::BUCKETS;
use serin_proxy::histogram::index;
use serin_proxy::histogram::lower_us;

use crate::crew;
use crate::least;
use crate::shares;
use crate::shares::Mean;
use crate::trial;
use crate::trial::Trial;

/// The chance that a canary which is not good enough passes.
const BETA: f64 = 0.05;
const GOAL: f64 = 1.2;
const MOST_SECONDS: f64 = 6.0 * 3600.0;

/// What has to be shown of a canary.
#[derive(Clone, Copy)]
enum What {
    /// It fails at most `ratio` times the primary's share, and `margin` more.
    Failures { ratio: f64, margin: f64, share: f64 },
    /// The same of answers beyond the primary's p99, a tenth later.
    Slowest,
    /// It stays inside a 99 % objective.
    Objective { share: f64 },
}

pub fn requests(seeds: u32) -> String {
    let mut cases = Vec::new();
    let failures = |ratio, margin, share| What::Failures { ratio, margin, share };
    for what in
        [failures(1.2, 0.005, 0.001), failures(1.2, 0.005, 0.01), failures(1.0, 0.002, 0.001), What::Slowest]
    {
        cases.extend([5, 10, 50].map(|percent| (what, percent, 1_000.0)));
        cases.extend([100.0, 10.0].map(|rps| (what, 10, rps)));
    }
    for share in [0.0, 0.001, 0.003] {
        cases.push((What::Objective { share }, 10, 1_000.0));
    }
    let seeds = seeds as usize;
    let measured = crew::each("proof before promotion", cases.len() * seeds, |at| {
        let (what, percent, rps) = cases[at / seeds];
        let seed = (at % seeds) as u64;
        (alone(what, percent, seed), in_engine(what, percent, rps, seed))
    });
    let mut text = String::from(
        "| to be shown | split | requests/s | least possible | the test needs | of the least | goal met | canary requests \
         by the proof | of the least | goal met | s |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for ((what, percent, rps), measured) in cases.iter().zip(measured.chunks(seeds)) {
        let least = what.least(f64::from(*percent) / 100.0);
        let test = Mean::of(measured.iter().map(|(test, _)| *test));
        let proved: Vec<trial::Cost> = measured.iter().filter_map(|(_, engine)| *engine).collect();
        let sent = Mean::of(proved.iter().map(|cost| cost.requests));
        let seconds = Mean::of(proved.iter().map(|cost| cost.seconds));
        let met = |mean: Mean| if mean.value <= GOAL * least { "yes" } else { "no" };
        let missing = seeds - proved.len();
        let never = if missing == 0 { String::new() } else { format!(" ({missing} of {seeds} not in 6 h)") };
        let _ = writeln!(
            text,
            "| {}{never} | {percent} % | {rps} | {least:.0} | {test} | {:.2} | {} | {sent} | {:.2} | {} | {:.0} |",
            what.words(),
            test.value / least,
            met(test),
            sent.value / least,
            met(sent),
            seconds.value
        );
    }
    text
}

/// Canaries exactly where they are not good enough any more.
pub fn false_promotions(runs: u32) -> String {
    let failures = |share| What::Failures { ratio: 1.2, margin: 0.005, share };
    let whats = [failures(0.001), failures(0.01), What::Slowest, What::Objective { share: 0.01 }];
    let cases: Vec<(What, u32)> =
        whats.iter().flat_map(|what| [5, 10, 50].map(|percent| (*what, percent))).collect();
    let runs = runs as usize;
    let passed = crew::each("false promotion", cases.len() * runs, |at| {
        let (what, percent) = cases[at / runs];
        let spec = what.at_margin(percent).spec();
        play(&spec, &what.edge(), (at % runs) as u64).end == End::Promoted
    });
    let mut text = String::from(
        "| at the margin of | split | stages | passed | at most, 95 % |\n|---|---|---|---|---|\n",
    );
    for ((what, percent), passed) in cases.iter().zip(passed.chunks(runs)) {
        let count = passed.iter().filter(|passed| **passed).count();
        let (share, most) = (count as f64 / runs as f64, shares::at_most(count, runs));
        let _ = writeln!(
            text,
            "| {} | {percent} % | {runs} | {count} ({}) | {} |",
            what.words(),
            shares::percent(share),
            shares::percent(most)
        );
    }
    text
}

impl What {
    fn words(self) -> String {
        let percent = |share: f64| (share * 1e6).round() / 1e4;
        match self {
            What::Failures { ratio, margin, share } => {
                format!("failures <= {ratio} x + {} points, at {} %", percent(margin), percent(share))
            }
            What::Slowest => "beyond p99: <= 1.2 x + 0.5 points".to_owned(),
            What::Objective { share } => format!("99 % objective, at {} %", percent(1.0 - share)),
        }
    }

    fn analysis(self) -> Analysis {
        let usual = Analysis::default();
        let (mut ratio, mut margin) = (1.2, 0.005);
        let (mut failures, mut latency, mut success) = (None, None, None);
        match self {
            What::Failures { ratio: times, margin: more, .. } => {
                (ratio, margin) = (times, more);
                failures = usual.relative_failures.map(|asked| RelativeFailures { share: 1.0, ..asked });
            }
            What::Slowest => {
                latency = usual.relative_latency.map(|asked| RelativeLatency { share: 1.0, ..asked });
            }
            What::Objective { .. } => success = Some(SuccessObjective { min: 0.99, share: 1.0 }),
        }
        Analysis {
            relative_failures: failures,
            relative_latency: latency,
            success,
            promotion: Some(Promotion { beta: BETA, ratio, margin, ..Promotion::default() }),
            inconclusive: Inconclusive::Wait,
            ..usual
        }
    }

    fn version(self) -> Version {
        match self {
            What::Failures { share, .. } | What::Objective { share } => Version::failing(share),
            What::Slowest => Version::failing(0.001),
        }
    }

    fn least(self, w: f64) -> f64 {
        match self {
            What::Failures { ratio, margin, share } => {
                least::rates(Boundary { rho: ratio, delta: margin }, share, share, w, BETA)
            }
            What::Slowest => {
                let [primary, canary] = self.beyond();
                least::rates(Boundary { rho: 1.2, delta: 0.005 }, primary, canary, w, BETA)
            }
            What::Objective { share } => least::objective(0.01, share, BETA),
        }
    }

    /// Shares that the judge counts as slowest, failures among them.
    fn beyond(self) -> [f64; 2] {
        let (version, edges) = (self.version(), self.edges(0));
        edges.map(|us| tail(version, us))
    }

    /// The ages from which on an answer of the primary and of the canary is among the slowest, where the judge
    /// sees the primary's slowest hundredth so many buckets further on than it is.
    fn edges(self, further: i32) -> [u64; 2] {
        let first = (1..BUCKETS).find(|bucket| tail(self.version(), lower_us(*bucket)) <= 0.01);
        let edge = lower_us(first.expect("few answers take an hour").saturating_add_signed(further as isize));
        let slower = Analysis::default().relative_latency.map_or(edge, |asked| asked.slack.on(edge));
        let at = index(slower);
        [edge, lower_us(if lower_us(at) < slower { at + 1 } else { at })]
    }

    /// A canary that is worse by exactly what must not pass. Nothing else stops it: its rollback has no budget.
    fn at_margin(self, percent: u32) -> Trial {
        let analysis = self.analysis();
        let promotion = analysis.promotion.map(|asked| Promotion { extra_time: Some(WATCHED), ..asked });
        let analysis =
            Analysis { alpha: 1e-300, inconclusive: Inconclusive::Rollback, promotion, ..analysis };
        let version = self.version();
        Trial {
            percent,
            rps: 100.0,
            primary: version,
            canary: version,
            analysis,
            hold: Duration::from_secs(1),
        }
    }

    fn edge(self) -> Scenario {
        let primary = self.version();
        let scenario = Scenario {
            rps: 100.0,
            baseline: primary.failure,
            median_ms: primary.median_ms,
            p99_ms: primary.median_ms * (primary.spread * Z99).exp(),
            ..Scenario::default()
        };
        match self {
            What::Failures { ratio, margin, share } => {
                Scenario { errors: Some(ratio * share + margin), ..scenario }
            }
            What::Slowest => Scenario { latency: self.factor(), ..scenario },
            What::Objective { .. } => scenario,
        }
    }

    /// By how much slower the answers are of a canary at the margin, also where the judge takes the bucket beside
    /// for that of the p99.
    fn factor(self) -> f64 {
        let primary = self.version();
        let is_inside = |factor: f64| {
            (-1..=1).any(|further| {
                let [edge, later] = self.edges(further);
                tail(primary.slower(factor), later) < 1.2 * tail(primary, edge) + 0.005
            })
        };
        let (mut low, mut high) = (1.0, 10.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if is_inside(middle) { low = middle } else { high = middle }
        }
        high
    }
}

/// The share of answers that are older, or failed.
fn tail(version: Version, us: u64) -> f64 {
    version.failure + (1.0 - version.failure) * (1.0 - crowd::below(version, us as f64))
}

/// The standard normal distribution's 99th percentile.
const Z99: f64 = 2.326_347_874_040_841;
/// How long a canary at the margin may try to pass.
const WATCHED: Duration = Duration::from_secs(45 * 60);

/// Canary requests until the test has seen enough, given them as soon as they are over.
fn alone(what: What, percent: u32, seed: u64) -> f64 {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (version, w) = (what.version(), f64::from(percent) / 100.0);
    let ages = Ages::of(version);
    let mut history = History::default();
    history.observe(Moment(1), &Evidence::default());
    let watched = 60_000;
    let failed = crowd::binomial(watched, version.failure, &mut random);
    let primary = crowd::counted(watched, failed, &ages, Marks::default(), &mut random);
    let seen = GenerationDelta { id: 1, primary, ..GenerationDelta::default() };
    history.observe(Moment(60_000), &Evidence { generations: vec![seen], ..Evidence::default() });
    let mut stage = Stage::new(&what.analysis(), &history, Moment(60_000)).expect("something is to be shown");
    let [primary_beyond, canary_beyond] = what.beyond();
    let mut requests = 0;
    while stage.promotion(w, 1.0) != stage::Promotion::Proved {
        let all = (20.0 / w) as u64;
        let canary = crowd::binomial(all, w, &mut random);
        let mut counts = |dispatched: u64, beyond: f64| {
            let failed = crowd::binomial(dispatched, version.failure, &mut random);
            let beyond = crowd::binomial(dispatched, beyond, &mut random);
            Counts {
                dispatched,
                ok: dispatched - failed,
                failed,
                beyond,
                measured: dispatched,
                ..Counts::default()
            }
        };
        let (its, theirs) = (counts(canary, canary_beyond), counts(all - canary, primary_beyond));
        stage.take_in(its, theirs, w, 0.0);
        requests += canary;
    }
    requests as f64
}

/// What had been sent to the canary when the engine had the proof.
fn in_engine(what: What, percent: u32, rps: f64, seed: u64) -> Option<trial::Cost> {
    let version = what.version();
    let hold = Duration::from_secs(1);
    let trial = Trial { percent, rps, primary: version, canary: version, analysis: what.analysis(), hold };
    let mut rehearsal = trial.started(seed);
    while trial::seconds(&rehearsal) < MOST_SECONDS && !rehearsal.rollout.phase().is_final() {
        let told = rehearsal.look(&[]);
        let is_proof =
            |action: &Action| matches!(action, Action::Tell { event } if event.kind == EventKind::Proved);
        if told.iter().any(is_proof) {
            return Some(trial::cost(&rehearsal));
        }
    }
    None
}
