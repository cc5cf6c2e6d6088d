//! Mirrored traffic: the same request answered by both versions. What both failed
//! says nothing, however much of it there is. A pair that only one failed is a toss
//! of a fair coin while the versions are alike, and it is bet on like any failure
//! that a fair coin assigned; no user was exposed to it.

use super::evidence::Evidence;
use super::failures::Failed;

/// The tosses, and how many requests the canary answered well.
pub fn asked(evidence: &Evidence) -> (Vec<Failed>, i64) {
    let pairs = evidence.pairs;
    let tosses = Failed { canary: pairs.canary_only, primary: pairs.primary_only, w: 0.5 };
    (vec![tosses], (pairs.neither + pairs.primary_only) as i64)
}
