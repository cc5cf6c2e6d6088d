//! Synthetic traffic counted by the look and not by the request, so that an hour
//! of it takes milliseconds: how many came, failed and took how long is drawn from
//! the distribution of the sums.
//!
//! Beside [`super::Rehearsal`], which moves single requests by the millisecond,
//! one thing is left out: a request ends in the look in which it began. While
//! nothing fails a look is a second long; where the canary fails, each tenth of it in
//! which it does is looked at, too.

use std::f64::consts::SQRT_2;

use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::Binomial;
use rand_distr::Distribution;
use rand_distr::Poisson;
use rand_distr::weighted::WeightedAliasIndex;
use serin_proxy::histogram;
use serin_proxy::histogram::BUCKETS;

use super::Version;
use super::World;
use crate::judge::evidence::ArmDelta;

/// Up to so many requests are drawn one by one, by a table; of more, how many fall into
/// each bucket.
const FEW: u64 = 4_000;

/// The ages of a version's answers, by bucket of the proxy's histogram.
#[derive(Clone, Debug)]
pub struct Ages {
    of: Version,
    /// Chance of an age in a bucket or one before; the buckets from `first` on.
    cumulative: Vec<f64>,
    table: WeightedAliasIndex<f64>,
    first: usize,
}

/// From which ages on a request counts as slow, or is told before it ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    pub slow_us: Option<u64>,
    pub reveal_us: Option<u64>,
}

impl Ages {
    pub fn of(version: Version) -> Ages {
        let mut cumulative = Vec::new();
        let mut first = 0;
        for bucket in 0..BUCKETS {
            let upto = match bucket + 1 {
                BUCKETS => 1.0,
                next => below(version, histogram::lower_us(next) as f64),
            };
            if cumulative.is_empty() && upto < 1e-12 {
                first = bucket + 1;
                continue;
            }
            cumulative.push(upto);
            if upto > 1.0 - 1e-12 {
                break;
            }
        }
        let before = std::iter::once(0.0).chain(cumulative.iter().copied());
        let chances = cumulative.iter().zip(before).map(|(upto, before)| (upto - before).max(0.0)).collect();
        let table = WeightedAliasIndex::new(chances).expect("chances are positive, and some are not zero");
        Ages { of: version, cumulative, table, first }
    }

    /// How often a version fails has no part in how old its answers are.
    pub fn is_of(&self, version: Version) -> bool {
        self.of == Version { failure: self.of.failure, ..version }
    }

    /// The chance of an age above so many microseconds.
    fn above(&self, us: u64) -> f64 {
        1.0 - below(self.of, us as f64)
    }

    /// So many answers, shared out among the buckets, which come in their order.
    fn share_out(&self, count: u64, random: &mut Xoshiro256PlusPlus, mut add: impl FnMut(usize, u64)) {
        if count <= FEW {
            let mut counts = vec![0; self.cumulative.len()];
            (0..count).for_each(|_| counts[self.table.sample(random)] += 1);
            let told = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
            return told.for_each(|(at, count)| add(self.first + at, count));
        }
        let (mut left, mut before) = (count, 0.0);
        for (at, upto) in self.cumulative.iter().enumerate() {
            let chance = ((upto - before) / (1.0 - before)).clamp(0.0, 1.0);
            let here = if at + 1 == self.cumulative.len() { left } else { binomial(left, chance, random) };
            if here > 0 {
                add(self.first + at, here);
            }
            (left, before) = (left - here, *upto);
            if left == 0 {
                return;
            }
        }
    }
}

/// The chance that a log-normal age is below so many microseconds.
pub fn below(version: Version, us: f64) -> f64 {
    if us <= 0.0 {
        return 0.0;
    }
    let z = (us / (version.median_ms * 1000.0)).ln() / version.spread;
    0.5 * libm::erfc(-z / SQRT_2)
}

/// Requests that came within so many seconds, by arm.
pub fn arrivals(world: &World, w: f64, seconds: f64, random: &mut Xoshiro256PlusPlus) -> (u64, u64) {
    let all = poisson(world.requests_per_second * seconds, random);
    let canary = binomial(all, w, random);
    (canary, all - canary)
}

/// What the proxy would have counted of so many requests that are all over.
pub fn counted(
    count: u64,
    failed: u64,
    ages: &Ages,
    marks: Marks,
    random: &mut Xoshiro256PlusPlus,
) -> ArmDelta {
    let mut arm = ArmDelta { dispatched: count, ok: count - failed, failed, ..ArmDelta::default() };
    arm.slow = marks.slow_us.map_or(0, |mark| binomial(count, ages.above(mark), random));
    let Some(reveal_us) = marks.reveal_us else {
        ages.share_out(arm.ok, random, |bucket, count| arm.latency.push((bucket as u32, count)));
        return settled(arm);
    };
    // Who is older than the mark is told at that age, failed or not.
    let most = histogram::index(reveal_us);
    arm.failed_revealed = binomial(failed, ages.above(reveal_us), random);
    let revealed = arm.failed_revealed;
    ages.share_out(arm.ok, random, |bucket, count| arm.latency.push((bucket.min(most) as u32, count)));
    if revealed > 0 {
        arm.latency.push((most as u32, revealed));
    }
    settled(arm)
}

/// Each bucket once, in their order.
fn settled(mut arm: ArmDelta) -> ArmDelta {
    arm.latency.sort_unstable_by_key(|(bucket, _)| *bucket);
    arm.latency.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 += next.1;
        }
        same
    });
    arm
}

pub fn binomial(count: u64, chance: f64, random: &mut Xoshiro256PlusPlus) -> u64 {
    match chance {
        _ if count == 0 || chance <= 0.0 => 0,
        _ if chance >= 1.0 => count,
        _ => Binomial::new(count, chance).expect("the chance is within zero and one").sample(random),
    }
}

fn poisson(mean: f64, random: &mut Xoshiro256PlusPlus) -> u64 {
    if mean <= 0.0 {
        return 0;
    }
    let drawn: f64 = Poisson::new(mean).expect("the mean is positive").sample(random);
    drawn as u64
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const VERSION: Version = Version { failure: 0.0, median_ms: 50.0, spread: 0.6 };

    fn random() -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(7)
    }

    /// Few and many requests are drawn in two ways: both from one distribution.
    #[test]
    fn ages_have_their_median_and_their_tail_however_they_are_drawn() {
        let (ages, mut random) = (Ages::of(VERSION), random());
        for batch in [40, FEW, 20_000] {
            let (mut all, mut below_median, mut above_p99) = (0, 0, 0);
            for _ in 0..400_000 / batch {
                ages.share_out(batch, &mut random, |bucket, count| {
                    all += count;
                    if bucket < histogram::index(50_000) {
                        below_median += count;
                    }
                    if bucket > histogram::index(201_900) {
                        above_p99 += count;
                    }
                });
            }
            let share = |count: u64| count as f64 / all as f64;
            // A bucket is up to a 32nd of its age wide, which blurs the median.
            assert!((share(below_median) - 0.5).abs() < 0.03, "{batch}: {}", share(below_median));
            assert!((share(above_p99) - 0.009).abs() < 0.003, "{batch}: {}", share(above_p99));
        }
    }

    #[test]
    fn what_is_counted_adds_up() {
        let (ages, mut random) = (Ages::of(VERSION), random());
        let marks = Marks { slow_us: Some(100_000), reveal_us: Some(150_000) };
        for count in [0, 1, 30, 5_000] {
            let failed = count / 3;
            let arm = counted(count, failed, &ages, marks, &mut random);
            assert_eq!(arm.dispatched, arm.ok + arm.failed);
            let told: u64 = arm.latency.iter().map(|(_, count)| count).sum();
            assert_eq!(told, arm.ok + arm.failed_revealed);
            assert!(arm.latency.iter().all(|(bucket, _)| *bucket as usize <= histogram::index(150_000)));
            assert!(arm.latency.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }
    }
}
