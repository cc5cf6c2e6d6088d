//! What came in since the last evaluation, as exact integers.

use serde::{Deserialize, Serialize};

use super::samples::Outside;
use crate::outside::hook::Word;

/// New evidence of one split between two evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub generations: Vec<GenerationDelta>,
    /// Requests are pinned to users, so they are not independent tosses.
    #[serde(default)]
    pub sticky: bool,
    /// What webhooks have answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<Word>,
    /// What others have said who were asked for a number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outside: Vec<Outside>,
    /// Mirrored requests of the primary and their copies.
    #[serde(default)]
    pub pairs: Pairs,
    /// Requests that the coin gave to versions which are not compared.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub others: u64,
    /// Answers of both versions, compared; where any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
}

/// What comparing answers has brought since the last look, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    pub compared: u64,
    /// Of these, the ones in which the canary alone differed somewhere.
    pub canary_only: u64,
    /// By how much the evidence grew that the canary differs.
    pub log_factor: f64,
    /// Places that differ beyond doubt by now, and the names of some.
    pub differing: u64,
    pub places: Vec<String>,
}

/// The same request answered by both versions; who has failed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairs {
    pub canary_only: u64,
    pub primary_only: u64,
    pub neither: u64,
    #[serde(default)]
    pub both: u64,
}

impl Pairs {
    /// One pair, of which these have failed.
    pub fn of(primary: bool, canary: bool) -> Pairs {
        let mut pairs = Pairs::default();
        match (primary, canary) {
            (false, false) => pairs.neither = 1,
            (true, false) => pairs.primary_only = 1,
            (false, true) => pairs.canary_only = 1,
            (true, true) => pairs.both = 1,
        }
        pairs
    }

    pub fn all(self) -> u64 {
        self.canary_only + self.primary_only + self.neither + self.both
    }

    pub fn add(&mut self, other: Pairs) {
        self.canary_only += other.canary_only;
        self.primary_only += other.primary_only;
        self.neither += other.neither;
        self.both += other.both;
    }
}

impl Evidence {
    pub fn per(&self) -> Per {
        if self.sticky { Per::User } else { Per::Request }
    }

    /// What another replica of the proxy, or another split of the rollout, has
    /// counted. Replicas toss the same coin, so generations of one name are one; the
    /// order of sums changes nothing.
    pub fn add(&mut self, other: &Evidence) {
        for theirs in &other.generations {
            let same = |mine: &&mut GenerationDelta| {
                mine.id == theirs.id && (mine.w, mine.fresh) == (theirs.w, theirs.fresh)
            };
            match self.generations.iter_mut().find(same) {
                Some(mine) => {
                    mine.canary.add(&theirs.canary);
                    mine.primary.add(&theirs.primary);
                    mine.canary_forced.add(&theirs.canary_forced);
                    mine.add_strata(&theirs.strata);
                }
                None => self.generations.push(theirs.clone()),
            }
        }
        self.generations.sort_by_key(|delta| delta.id);
        self.sticky |= other.sticky;
        self.words.extend(other.words.iter().cloned());
        self.outside.extend(other.outside.iter().cloned());
        self.pairs.add(other.pairs);
        self.others += other.others;
        if let Some(theirs) = &other.answers {
            self.answers.get_or_insert_default().add(theirs);
        }
    }

    /// The same with the two versions in each other's place. Copies go one way only,
    /// so pairs are left out.
    pub fn swapped(&self) -> Evidence {
        let swap = |delta: &GenerationDelta| GenerationDelta {
            id: delta.id,
            w: 1.0 - delta.w,
            fresh: 1.0 - delta.fresh,
            canary: delta.primary.clone(),
            primary: delta.canary.clone(),
            canary_forced: ArmDelta::default(),
            strata: delta.strata.iter().map(StratumDelta::swapped).collect(),
        };
        let generations = self.generations.iter().map(swap).collect();
        Evidence { generations, sticky: self.sticky, others: self.others, ..Evidence::default() }
    }
}

impl Answers {
    /// What another split of the rollout has brought.
    pub fn add(&mut self, other: &Answers) {
        self.compared += other.compared;
        self.canary_only += other.canary_only;
        self.log_factor += other.log_factor;
        self.differing += other.differing;
        self.places.extend(other.places.iter().cloned());
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn nothing(share: &f64) -> bool {
    *share == 0.0
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GenerationDelta {
    pub id: u64,
    /// Of the traffic that primary and canary share, the canary's probability:
    /// w_c / (w_c + w_p).
    pub w: f64,
    /// Where users keep a version, the same among those whose toss is fresh.
    #[serde(default, skip_serializing_if = "nothing")]
    pub fresh: f64,
    pub canary: ArmDelta,
    pub primary: ArmDelta,
    /// Canary requests sent there by rule; no coin, so only absolute tests.
    pub canary_forced: ArmDelta,
    /// Parts that are counted apart, within what is tossed for; those with news.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<StratumDelta>,
}

/// Of one part of the traffic how requests have ended, and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StratumDelta {
    pub name: String,
    pub canary: ArmDelta,
    pub primary: ArmDelta,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmDelta {
    pub dispatched: u64,
    pub ok: u64,
    pub failed: u64,
    pub aborted: u64,
    pub slow: u64,
    pub failed_revealed: u64,
    /// Failures of users who had not failed before, where users stay with a version.
    #[serde(default)]
    pub failed_units: u64,
    /// Of the requests in `first`, those that have failed.
    #[serde(default)]
    pub first_failed: u64,
    /// Of `ok` and `failed`, those that serin has sent by itself; and of these the failed.
    #[serde(default)]
    pub load: u64,
    #[serde(default)]
    pub load_failed: u64,
    /// New observations per bucket of `serin_proxy::histogram`: (bucket, count),
    /// only buckets that changed. See `ArmReading::latency` for what is in it.
    pub latency: Vec<(u32, u64)>,
    /// The same of one request of each user; see `ArmReading::first`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<(u32, u64)>,
}

/// Whose coin it was that was tossed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    #[default]
    Request,
    User,
}

impl GenerationDelta {
    /// The canary's share of the tosses.
    pub fn share(&self, per: Per) -> f64 {
        match per {
            Per::Request => self.w,
            Per::User => self.fresh,
        }
    }

    fn add_strata(&mut self, others: &[StratumDelta]) {
        for theirs in others {
            match self.strata.iter_mut().find(|mine| mine.name == theirs.name) {
                Some(mine) => {
                    mine.canary.add(&theirs.canary);
                    mine.primary.add(&theirs.primary);
                }
                None => self.strata.push(theirs.clone()),
            }
        }
    }
}

impl StratumDelta {
    fn swapped(&self) -> StratumDelta {
        let StratumDelta { name, canary, primary } = self.clone();
        StratumDelta { name, canary: primary, primary: canary }
    }
}

impl ArmDelta {
    fn add(&mut self, other: &ArmDelta) {
        let ArmDelta {
            dispatched,
            ok,
            failed,
            aborted,
            slow,
            failed_revealed,
            failed_units,
            first_failed,
            load,
            load_failed,
            latency,
            first,
        } = other;
        self.dispatched += dispatched;
        self.ok += ok;
        self.failed += failed;
        self.aborted += aborted;
        self.slow += slow;
        self.failed_revealed += failed_revealed;
        self.failed_units += failed_units;
        self.first_failed += first_failed;
        self.load += load;
        self.load_failed += load_failed;
        for (sum, buckets) in [(&mut self.latency, latency), (&mut self.first, first)] {
            for (bucket, n) in buckets {
                add_sparse(sum, *bucket, *n);
            }
        }
    }
}

/// Adds to one bucket of a sparse histogram that is kept in order.
pub fn add_sparse(buckets: &mut Vec<(u32, u64)>, bucket: u32, n: u64) {
    match buckets.binary_search_by_key(&bucket, |(index, _)| *index) {
        Ok(at) => buckets[at].1 += n,
        Err(at) => buckets.insert(at, (bucket, n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(id: u64, canary_failed: u64, bucket: u32) -> Evidence {
        let canary = ArmDelta {
            dispatched: 10,
            ok: 10 - canary_failed,
            failed: canary_failed,
            latency: vec![(bucket, 10 - canary_failed)],
            ..ArmDelta::default()
        };
        let delta = GenerationDelta { id, w: 0.1, canary, ..GenerationDelta::default() };
        Evidence {
            generations: vec![delta],
            pairs: Pairs { canary_only: id, ..Pairs::default() },
            ..Evidence::default()
        }
    }

    #[test]
    fn replicas_add_up_in_any_order() {
        let parts = [part(1, 2, 40), part(2, 1, 40), part(1, 3, 30)];
        let sum = |order: [usize; 3]| {
            let mut sum = Evidence::default();
            order.into_iter().for_each(|at| sum.add(&parts[at]));
            sum
        };
        let whole = sum([0, 1, 2]);
        assert_eq!(whole, sum([2, 1, 0]));
        assert_eq!(whole, sum([1, 0, 2]));
        let first = &whole.generations[0].canary;
        assert_eq!((first.dispatched, first.failed), (20, 5));
        assert_eq!(first.latency, [(30, 7), (40, 8)]);
        assert_eq!(whole.pairs.canary_only, 4);
    }
}
