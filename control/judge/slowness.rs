//! The relative latency test. Latencies fall into a few categories, cut where
//! the primary's tail is thin; given the category, whose request was it? Slow
//! categories that are the canary's more often than the coin explains are
//! evidence. A failure counts as slowest.
//!
//! Where users keep a version, each is one toss: one request of each counts. All of
//! them would count him as often as he comes, so that a canary whose users come less
//! often than its weight says would be thought slow by its fast answers.
//!
//! The slack moves the canary's cuts up to the next bucket edge, so the test is
//! never stricter than asked. Until a thousand latencies of the primary are
//! known, no stake is in play.

use serde::Deserialize;
use serde::Serialize;

use serin_proxy::histogram::BUCKETS;
use serin_proxy::histogram::index;
use serin_proxy::histogram::lower_us;

use super::analysis::Slack;
use super::evidence::ArmDelta;
use super::evidence::GenerationDelta;
use super::evidence::Per;
use super::history::Belief;
use super::history::Fading;
use super::history::late_failures;
use super::logs::excess;
use super::logs::from_odds;
use super::logs::odds;
use super::purse::Purse;

/// Tails of the primary at which latencies are cut.
const TAILS: [f64; 7] = [0.5, 0.25, 0.1, 0.03, 0.01, 0.001, 0.0001];

/// By how much the odds of the whole distribution may have moved.
const SHIFTS: [f64; 4] = [1.5, 2.5, 5.0, 20.0];

/// Fewer latencies than this are no ground to cut on.
const LEAST: f64 = 1000.0;

/// By how much the odds of one tail may have grown.
fn growths(tau: f64) -> &'static [f64] {
    match tau {
        0.1 | 0.03 => &[2.0, 5.0],
        0.01 => &[2.0, 5.0, 20.0],
        0.001 => &[5.0, 20.0, 100.0],
        0.0001 => &[30.0, 300.0],
        _ => &[],
    }
}

/// Where latencies are cut, and the bets that follow from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Cut>", into = "Vec<Cut>")]
pub struct Cuts {
    cuts: Vec<Cut>,
    rows: Vec<Vec<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// The last bucket below the cut.
    pub bucket: usize,
    /// The primary's estimated share above it, and the share that was sought.
    pub tail: f64,
    pub tau: f64,
}

impl Cuts {
    /// From the primary's counts per bucket, the last bucket having no end.
    pub fn of(counts: &[f64]) -> Cuts {
        let n: f64 = counts.iter().sum();
        let finite = counts.len() - 1;
        let mut cuts: Vec<Cut> = Vec::with_capacity(TAILS.len());
        for tau in TAILS {
            let mut above = n;
            for (bucket, count) in counts[..finite].iter().enumerate() {
                above -= count;
                let tail = (above + 0.5) / (n + 1.0);
                if tail <= tau || bucket == finite - 1 {
                    // A category that the primary never falls into says nothing.
                    if cuts.last().is_none_or(|last| tail < last.tail) {
                        cuts.push(Cut { bucket, tail, tau });
                    }
                    break;
                }
            }
        }
        Cuts::from(cuts)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cut> {
        self.cuts.iter()
    }

    /// Per bet and category: how much likelier a request of the category is
    /// under "slower" than under "the same". Each row rises, so that a faster
    /// canary cannot profit.
    pub fn rows(&self) -> &[Vec<f64>] {
        &self.rows
    }

    /// What each bet wins on requests per category that a coin `w` assigned.
    pub fn factors(&self, canary: &[u64], primary: &[u64], w: f64) -> Vec<f64> {
        let win = |row: &Vec<f64>| {
            let mut sum = 0.0;
            for (category, odds) in row.iter().enumerate() {
                let mean = w * odds + 1.0 - w;
                if canary[category] > 0 {
                    sum += canary[category] as f64 * (odds / mean).ln();
                }
                if primary[category] > 0 {
                    sum -= primary[category] as f64 * mean.ln();
                }
            }
            sum
        };
        self.rows.iter().map(win).collect()
    }

    /// First bucket of each category but the lowest, for answers that may be
    /// slower by `slack`.
    fn edges(&self, slack: Slack) -> Vec<usize> {
        self.cuts.iter().map(|cut| stretch(cut.bucket + 1, slack)).collect()
    }
}

impl From<Vec<Cut>> for Cuts {
    fn from(cuts: Vec<Cut>) -> Cuts {
        let tails: Vec<f64> = cuts.iter().map(|cut| cut.tail).collect();
        let bounds: Vec<f64> = std::iter::once(1.0).chain(tails).chain(std::iter::once(0.0)).collect();
        let mut rows = Vec::new();
        for shift in SHIFTS {
            let moved = |s: f64| shift * s / (1.0 + (shift - 1.0) * s);
            let row = bounds.windows(2).map(|ends| (moved(ends[0]) - moved(ends[1])) / (ends[0] - ends[1]));
            rows.push(row.collect());
        }
        for (below, cut) in cuts.iter().enumerate() {
            for growth in growths(cut.tau) {
                let (s, t) = (cut.tail, from_odds(growth * odds(cut.tail)));
                let row = (0..=cuts.len()).map(|k| if k <= below { (1.0 - t) / (1.0 - s) } else { t / s });
                rows.push(row.collect());
            }
        }
        Cuts { cuts, rows }
    }
}

impl From<Cuts> for Vec<Cut> {
    fn from(cuts: Cuts) -> Vec<Cut> {
        cuts.cuts
    }
}

/// The first bucket whose every latency is beyond the lower edge of `bucket` by
/// the slack or more; beyond the last bucket where none is.
fn stretch(bucket: usize, slack: Slack) -> usize {
    let us = slack.on(lower_us(bucket));
    let at = index(us);
    if lower_us(at) < us { at + 1 } else { at }
}

/// Where the primary's slowest hundredth begins, and where the canary's answers
/// are slower than that, slack included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hundredth {
    /// First buckets beyond it.
    pub primary: usize,
    pub canary: usize,
}

impl Hundredth {
    /// With what is believed of the primary's share beyond it. `None` until enough
    /// of its latencies are known.
    pub fn of(primary: &Fading, slack: Slack) -> Option<(Hundredth, Belief)> {
        let cuts = cut(primary)?;
        let cut = cuts.iter().find(|cut| cut.tail <= 0.01).or(cuts.cuts.last())?;
        let n: f64 = primary.counts().iter().sum();
        let edges = Hundredth { primary: cut.bucket + 1, canary: stretch(cut.bucket + 1, slack) };
        Some((edges, Belief::of(cut.tail * n, n)))
    }
}

/// Latencies in these buckets or beyond, failures among them, and how many there are.
pub fn beyond(arm: &ArmDelta, edge: usize, per: Per) -> (u64, u64) {
    let counts = categories(ended(arm, per), &[edge]);
    (counts[1], counts[0] + counts[1])
}

/// Ages by bucket, and failures that are in none of them.
fn ended(arm: &ArmDelta, per: Per) -> (&[(u32, u64)], u64) {
    match per {
        Per::Request => (&arm.latency, late_failures(arm)),
        Per::User => (&arm.first, 0),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slowness {
    #[serde(flatten)]
    slack: Slack,
    planned: u32,
    cap: Option<f64>,
    playing: Option<Playing>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Playing {
    cuts: Cuts,
    purse: Purse,
}

impl Slowness {
    pub fn new(slack: Slack, planned: u32, cap: Option<f64>) -> Slowness {
        Slowness { slack, planned, cap, playing: None }
    }

    /// Starts to play once enough is known of the primary.
    pub fn begin(&mut self, primary: &Fading) {
        if self.playing.is_none()
            && let Some(cuts) = cut(primary)
        {
            let bets = cuts.rows.len();
            let purse = Purse::new(&vec![1.0 / bets as f64; bets], self.planned, self.cap);
            self.playing = Some(Playing { cuts, purse });
        }
    }

    /// Cuts anew where the primary's latencies lie now, and pays in.
    pub fn top_up(&mut self, primary: &Fading) {
        let Some(playing) = &mut self.playing else { return };
        if let Some(cuts) = cut(primary) {
            let same = cuts.iter().map(|cut| cut.tau).eq(playing.cuts.iter().map(|cut| cut.tau));
            if !same {
                playing.purse.spread(cuts.rows.len());
            }
            playing.cuts = cuts;
        }
        playing.purse.top_up();
    }

    pub fn tick(&mut self, delta: &GenerationDelta, per: Per) {
        let Some(playing) = &mut self.playing else { return };
        let ended = [&delta.canary, &delta.primary].map(|arm| ended(arm, per));
        let w = delta.share(per);
        let none = |(latency, failed): &(&[(u32, u64)], u64)| latency.is_empty() && *failed == 0;
        if !(w > 0.0 && w < 1.0) || ended.iter().all(none) {
            return;
        }
        let [canary, primary] = ended;
        let canary = categories(canary, &playing.cuts.edges(self.slack));
        let primary = categories(primary, &playing.cuts.edges(Slack::NONE));
        playing.purse.bet(playing.cuts.factors(&canary, &primary, w));
    }

    pub fn slack(&self) -> Slack {
        self.slack
    }

    pub fn purse(&self) -> Option<&Purse> {
        self.playing.as_ref().map(|playing| &playing.purse)
    }

    pub fn close_window(&mut self) {
        if let Some(playing) = &mut self.playing {
            playing.purse.close_window();
        }
    }

    /// The age at which a request under way is already in the slowest category
    /// that an answer can be in.
    pub fn reveal_us(&self) -> Option<u64> {
        let edges = self.playing.as_ref()?.cuts.edges(self.slack);
        edges.into_iter().filter(|edge| *edge < BUCKETS - 1).max().map(lower_us)
    }

    /// How much, in nats, the canary's latencies alone say that it is slower, its
    /// failures left out. For sentences, never for verdicts.
    pub fn speaks(&self, latency: &[(u32, u64)], requests: u64) -> f64 {
        let Some(playing) = &self.playing else { return 0.0 };
        let above = |edge: usize| -> u64 {
            latency.iter().filter(|(bucket, _)| *bucket as usize >= edge).map(|(_, n)| n).sum()
        };
        let edges = playing.cuts.edges(self.slack);
        let each = edges.into_iter().zip(playing.cuts.iter());
        each.map(|(edge, cut)| excess(above(edge), requests, cut.tail)).fold(0.0, f64::max)
    }

    /// How many of these canary answers are slower than the primary's slowest
    /// hundredth, slack included.
    pub fn slowest(&self, canary: &ArmDelta) -> u64 {
        let Some(playing) = &self.playing else { return 0 };
        let hundredth = playing.cuts.iter().find(|cut| cut.tail <= 0.01).or(playing.cuts.cuts.last());
        let Some(edge) = hundredth.map(|cut| stretch(cut.bucket + 1, self.slack)) else { return 0 };
        canary.latency.iter().filter(|(bucket, _)| *bucket as usize >= edge).map(|(_, n)| n).sum()
    }
}

fn cut(primary: &Fading) -> Option<Cuts> {
    (primary.total() >= LEAST).then(|| Cuts::of(&primary.counts()))
}

/// Requests per category; `edges` are the first buckets of all but the lowest.
fn categories((latency, failed): (&[(u32, u64)], u64), edges: &[usize]) -> Vec<u64> {
    let mut counts = vec![0; edges.len() + 1];
    for (bucket, n) in latency {
        counts[edges.iter().filter(|edge| **edge <= *bucket as usize).count()] += n;
    }
    counts[edges.len()] += failed;
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::evidence::add_sparse;

    #[test]
    fn slack_is_never_stricter_than_asked() {
        let tenth = Slack { margin: 0.1, least_us: 0 };
        for bucket in 1..BUCKETS {
            let edge = stretch(bucket, tenth);
            if edge < BUCKETS {
                assert!(lower_us(edge) as f64 >= lower_us(bucket) as f64 * 1.1, "bucket {bucket}");
                assert!(lower_us(edge - 1) as f64 <= lower_us(bucket) as f64 * 1.1 + 1.0, "bucket {bucket}");
            }
        }
        assert_eq!(stretch(BUCKETS - 1, tenth), BUCKETS);
    }

    #[test]
    fn what_nobody_can_feel_is_not_slower() {
        let slack = Slack { margin: 0.1, least_us: 1000 };
        assert_eq!(slack.on(300), 1300);
        // Rounded up, so that it is never stricter than asked.
        assert!((55_000..=55_001).contains(&slack.on(50_000)), "{}", slack.on(50_000));
        let edge = stretch(index(300), slack);
        assert!(lower_us(edge) >= 1290 && lower_us(edge - 1) < 1300, "{}", lower_us(edge));
    }

    #[test]
    fn failures_are_in_the_slowest_category_unless_already_revealed() {
        let arm = ArmDelta {
            failed: 5,
            failed_revealed: 2,
            latency: vec![(10, 7), (90, 3)],
            ..ArmDelta::default()
        };
        let ended = (arm.latency.as_slice(), late_failures(&arm));
        assert_eq!(categories(ended, &[50, 200]), [7, 3, 3]);
    }

    #[test]
    fn every_row_rises() {
        let counts: Vec<f64> =
            (0..200).map(|i| 1000.0 * (-(f64::from(i) - 60.0).abs() / 9.0).exp()).collect();
        for row in Cuts::of(&counts).rows() {
            assert!(row.windows(2).all(|pair| pair[0] <= pair[1] + 1e-12), "{row:?}");
        }
    }

    /// Equal versions, a thousand users who keep theirs and come a hundred times
    /// each: does the evidence ever reach a thousand to one?
    fn is_suspected(seed: u64, per: Per) -> bool {
        use rand::RngExt;
        use rand::SeedableRng;
        let mut random = rand::rngs::Xoshiro256PlusPlus::seed_from_u64(seed);
        // The primary's past, cold, had more slow answers than anybody has now.
        let bucket = |z: f64, slow: f64| ((20.0 * (1.0 - z).powf(-slow)) as u32).min(BUCKETS as u32 - 1);
        let mut past = vec![0.0; BUCKETS];
        (0..4096).for_each(|i| past[bucket((f64::from(i) + 0.5) / 4096.0, 0.3) as usize] += 1.0);
        let cuts = Cuts::of(&past);
        let bets = cuts.rows.len();
        let purse = Purse::new(&vec![1.0 / bets as f64; bets], 60, None);
        let slack = Slack { margin: 0.0, least_us: 0 };
        let playing = Some(Playing { cuts, purse });
        let mut test = Slowness { slack, planned: 60, cap: None, playing };
        let users: Vec<bool> = (0..1_000).map(|_| random.random::<f64>() < 0.1).collect();
        let mut seen = vec![false; users.len()];
        for _ in 0..100 {
            let mut delta = GenerationDelta { w: 0.1, fresh: 0.1, ..GenerationDelta::default() };
            for _ in 0..users.len() {
                let user = random.random_range(0..users.len());
                let bucket = bucket(random.random(), 0.2);
                let arm = if users[user] { &mut delta.canary } else { &mut delta.primary };
                add_sparse(&mut arm.latency, bucket, 1);
                if !std::mem::replace(&mut seen[user], true) {
                    add_sparse(&mut arm.first, bucket, 1);
                }
            }
            test.tick(&delta, per);
            if test.purse().is_some_and(|purse| purse.log_e() >= 1000_f64.ln()) {
                return true;
            }
        }
        false
    }

    #[test]
    fn a_canary_whose_users_come_less_often_is_not_slow() {
        let suspected = |per| (0..150).filter(|seed| is_suspected(*seed, per)).count();
        let (by_user, by_request) = (suspected(Per::User), suspected(Per::Request));
        assert_eq!(by_user, 0, "the budget is one in a thousand");
        assert!(by_request > 10, "{by_request}: else this says nothing");
    }
}
