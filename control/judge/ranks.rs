//! Rank statistics: the average rank of each value among two samples, and the
//! test of Mann and Whitney with its p-values.
//!
//! Small samples are counted exactly, also where values tie. Then the null
//! distribution is lopsided, and the two-sided p doubles the smaller tail as it
//! is, not the tail of the smaller U: PipeCD's copy of the test does the latter
//! and calls four values against five equal ones certain (p = 0 for 2/21).

use statrs::distribution::ContinuousCDF;
use statrs::distribution::Normal;

/// Counted exactly up to so many values a side; beyond, the normal curve stands in.
const EXACT: usize = 50;
const EXACT_TIED: usize = 25;

/// What two samples look like as ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranks {
    /// Sum of the first sample's ranks; equal values share the mean of theirs.
    pub first_sum: f64,
    /// How many values are equal, group by group, in ascending order.
    pub ties: Vec<usize>,
}

impl Ranks {
    /// Values must be ordered numbers, no NaN.
    pub fn of(first: &[f64], second: &[f64]) -> Ranks {
        let mut all: Vec<(f64, bool)> = first.iter().map(|value| (*value, true)).collect();
        all.extend(second.iter().map(|value| (*value, false)));
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut ranks = Ranks { first_sum: 0.0, ties: Vec::new() };
        let mut from = 0;
        // Zeros of either sign are one value, though they sort apart.
        for group in all.chunk_by(|a, b| a.0 == b.0) {
            let mean = (2 * from + group.len() + 1) as f64 / 2.0;
            ranks.first_sum += mean * group.iter().filter(|(_, first)| *first).count() as f64;
            ranks.ties.push(group.len());
            from += group.len();
        }
        ranks
    }

    fn any_tied(&self) -> bool {
        self.ties.iter().any(|tied| *tied > 1)
    }

    /// Sum of t^3 - t over the groups of equal values.
    pub fn tie_term(&self) -> f64 {
        self.ties.iter().map(|tied| (*tied as f64).powi(3) - *tied as f64).sum()
    }
}

/// The test's statistic of the first sample, and how surprising it is where both
/// come from one population.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MannWhitney {
    pub u: f64,
    /// That the first sample is not lower, not different, not higher.
    pub less: f64,
    pub two_sided: f64,
    pub greater: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untestable {
    /// A side has no value.
    Empty,
    /// All values of both sides are one.
    AllEqual,
}

impl MannWhitney {
    pub fn of(first: &[f64], second: &[f64]) -> Result<MannWhitney, Untestable> {
        let (n, m) = (first.len(), second.len());
        if n == 0 || m == 0 {
            return Err(Untestable::Empty);
        }
        let ranks = Ranks::of(first, second);
        if ranks.ties.len() == 1 {
            return Err(Untestable::AllEqual);
        }
        let u = ranks.first_sum - (n * (n + 1)) as f64 / 2.0;
        let most = if ranks.any_tied() { EXACT_TIED } else { EXACT };
        let exact = n <= most && m <= most;
        Ok(if exact { counted(u, n, m, &ranks.ties) } else { approximate(u, n, m, &ranks) })
    }
}

fn counted(u: f64, n: usize, m: usize, ties: &[usize]) -> MannWhitney {
    // Ranks are halves at most, so twice U is whole.
    let twice = (2.0 * u).round() as usize;
    let ways = ways(n, m, ties);
    let all: f64 = ways.iter().sum();
    let less = ways[..=twice].iter().sum::<f64>() / all;
    let greater = ways[twice..].iter().sum::<f64>() / all;
    MannWhitney { u, less, greater, two_sided: (2.0 * less.min(greater)).min(1.0) }
}

/// In how many ways twice U comes out as each number, over all ways to choose
/// which `n` of the values are the first sample's.
fn ways(n: usize, m: usize, ties: &[usize]) -> Vec<f64> {
    // Sums of doubled ranks of the chosen so far, by how many are chosen.
    let least = n * (n + 1);
    let most = least + 2 * n * m;
    let mut by_count = vec![vec![0.0; most + 1]; n + 1];
    by_count[0][0] = 1.0;
    let mut before = 0;
    for tied in ties {
        let doubled = 2 * before + tied + 1;
        // From many to few, so that a value is chosen once.
        for count in (1..=n.min(before + tied)).rev() {
            for chosen in 1..=count.min(*tied) {
                let times = binomial(*tied, chosen);
                let (low, high) = by_count.split_at_mut(count);
                let (from, to) = (&low[count - chosen], &mut high[0]);
                let step = chosen * doubled;
                let highest = most.min(2 * count * (before + tied));
                for sum in step..=highest {
                    to[sum] += times * from[sum - step];
                }
            }
        }
        before += tied;
    }
    by_count[n][least..].to_vec()
}

fn binomial(n: usize, k: usize) -> f64 {
    (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
}

fn approximate(u: f64, n: usize, m: usize, ranks: &Ranks) -> MannWhitney {
    let (product, all) = ((n * m) as f64, (n + m) as f64);
    let sigma = (product / 12.0 * (all + 1.0 - ranks.tie_term() / (all * (all - 1.0)))).sqrt();
    let off = u - product / 2.0;
    let normal = Normal::standard();
    let toward_middle = if off == 0.0 { 0.0 } else { 0.5 * off.signum() };
    MannWhitney {
        u,
        less: normal.cdf((off + 0.5) / sigma),
        greater: normal.sf((off - 0.5) / sigma),
        two_sided: (2.0 * normal.sf((off - toward_middle).abs() / sigma)).min(1.0),
    }
}
