//! The least number of canary requests that any test needs with the same bound on its errors, on average: the
//! logarithm of the odds that are asked for, over what a request can tell at most against the nearest case in
//! which nothing is to be said. No method can do better; how near one comes is what the tables show.

use serin::judge::analysis::Slack;
use serin::judge::logs::divergence;
use serin::judge::projection::Boundary;
use serin::rehearse::Version;
use serin::rehearse::crowd::below;

/// Parts that latencies are divided into, and how far from the median they go, in standard deviations of the
/// logarithm.
const PARTS: usize = 8_000;
const REACH: f64 = 10.0;

/// To show with error `error` that rates are beyond the boundary, or inside it.
pub fn rates(boundary: Boundary, primary: f64, canary: f64, w: f64, error: f64) -> f64 {
    let canary = canary.clamp(1e-9, 1.0 - 1e-9);
    -w * error.ln() / boundary.growth(primary, canary, w)
}

/// To show that the canary's share of bad requests is inside an objective.
pub fn objective(most: f64, canary: f64, error: f64) -> f64 {
    -error.ln() / divergence(canary.max(1e-9), most)
}

/// To show that the canary is slower than the primary by more than the slack, a failure being slowest of all.
///
/// The nearest case in which it is not: among all pairs of distributions in which the canary's, slack taken
/// off, is nowhere behind the primary's. By duality that is the best that can be told of whose a request was from
/// its latency alone, with chances that rise with the latency: an isotonic regression, solved by pooling neighbours.
pub fn slowness(primary: Version, canary: Version, slack: Slack, w: f64, error: f64) -> f64 {
    let edge = |at: usize| {
        let z = REACH * (2.0 * at as f64 / PARTS as f64 - 1.0);
        primary.median_ms * 1000.0 * (primary.spread * z).exp()
    };
    let slower = |us: f64| (us * (1.0 + slack.margin)).max(us + slack.least_us as f64);
    // Chances of a request in each part: the primary's, the canary's.
    let mut chances = Vec::with_capacity(PARTS + 3);
    let mut before = (0.0, 0.0);
    let upto = (0..=PARTS).map(|at| (below(primary, edge(at)), below(canary, slower(edge(at)))));
    for upto in upto.chain([(1.0, 1.0)]) {
        let of = |version: Version, chance: f64| (1.0 - version.failure) * chance;
        let (theirs, its) = (of(primary, upto.0 - before.0), of(canary, upto.1 - before.1));
        chances.push(((1.0 - w) * theirs, w * its));
        before = upto;
    }
    chances.push(((1.0 - w) * primary.failure, w * canary.failure));
    let told: f64 = rising(&chances).iter().map(|(theirs, its)| information(*theirs, *its, w)).sum();
    // Rounding may leave less than nothing, where there is nothing.
    -w * error.ln() / told.max(0.0)
}

/// Neighbours pooled until the canary's share rises from each to the next.
fn rising(chances: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut pools: Vec<(f64, f64)> = Vec::new();
    for chance in chances.iter().copied().filter(|(theirs, its)| theirs + its > 0.0) {
        let mut pool = chance;
        while let Some(last) = pools.last()
            && last.1 * (pool.0 + pool.1) >= pool.1 * (last.0 + last.1)
        {
            pool = (pool.0 + last.0, pool.1 + last.1);
            pools.pop();
        }
        pools.push(pool);
    }
    pools
}

/// What is told by requests of one pool of whose they were, beyond what the coin says.
fn information(theirs: f64, its: f64, w: f64) -> f64 {
    let both = theirs + its;
    let part = |chance: f64, coin: f64| if chance > 0.0 { chance * (chance / both / coin).ln() } else { 0.0 };
    part(theirs, 1.0 - w) + part(its, w)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Slack = Slack::NONE;

    fn needed(canary: Version, w: f64) -> f64 {
        slowness(Version::failing(0.0), canary, NONE, w, 0.001)
    }

    #[test]
    fn whoever_is_not_slower_can_never_be_shown_to_be() {
        let primary = Version::failing(0.001);
        for canary in [primary, primary.slower(0.5)] {
            assert!(slowness(primary, canary, NONE, 0.1, 0.001) > 1e6);
        }
        let tenth = Slack { margin: 0.1, least_us: 1_000 };
        assert!(slowness(primary, primary.slower(1.1), tenth, 0.1, 0.001) > 1e6);
    }

    /// Where the ratio of the chances rises nothing is pooled, and what is told is the mutual information.
    #[test]
    fn failures_alone_need_what_rates_need() {
        let (primary, canary) = (Version::failing(0.001), Version::failing(0.05));
        let by_rates = rates(Boundary { rho: 1.0, delta: 0.0 }, 0.001, 0.05, 0.05, 0.001);
        let by_latency = slowness(primary, canary, NONE, 0.05, 0.001);
        assert!((by_latency / by_rates - 1.0).abs() < 1e-6, "{by_latency} and {by_rates}");
    }

    #[test]
    fn a_tail_alone_needs_more_than_a_shift() {
        let shifted = needed(Version::failing(0.0).slower(2.0), 0.05);
        let tail = needed(Version { spread: 0.898, ..Version::failing(0.0) }, 0.05);
        assert!(shifted > 5.0 && tail > 4.0 * shifted, "{shifted} and {tail}");
        assert!((needed(Version::failing(1.0), 0.05) / shifted) < 0.5);
    }
}
