//! The weights of one split, in hundredths of a percent; they always sum to the whole.

use serde::{Deserialize, Serialize};

/// One hundred percent.
pub const WHOLE: u32 = 10_000;

/// Version name and its share, in the order given. Sums to [`WHOLE`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, u32)>", into = "Vec<(String, u32)>")]
pub struct Weights(Vec<(String, u32)>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    #[error("weights sum to {}, not to 100", percent(*.0))]
    Sum(u32),
    #[error("version {0:?} is given a weight twice")]
    Twice(String),
}

impl Weights {
    pub fn new(shares: Vec<(String, u32)>) -> Result<Weights, WeightsError> {
        for (i, (name, _)) in shares.iter().enumerate() {
            if shares[..i].iter().any(|(other, _)| other == name) {
                return Err(WeightsError::Twice(name.clone()));
            }
        }
        let sum = shares.iter().fold(0u32, |sum, (_, parts)| sum.saturating_add(*parts));
        if sum != WHOLE {
            return Err(WeightsError::Sum(sum));
        }
        Ok(Weights(shares))
    }

    /// All of `parts` to `canary`, the rest to `primary`.
    pub fn pair(primary: &str, canary: &str, parts: u32) -> Weights {
        let parts = parts.min(WHOLE);
        Weights(vec![(primary.to_owned(), WHOLE - parts), (canary.to_owned(), parts)])
    }

    /// Share of a version; one that is not named has none.
    pub fn of(&self, version: &str) -> u32 {
        self.0.iter().find(|(name, _)| name == version).map_or(0, |(_, parts)| *parts)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.0.iter().map(|(name, parts)| (name.as_str(), *parts))
    }
}

/// Equal shares, whatever the order and however zero is written: a version that
/// is added without traffic changes nothing.
impl PartialEq for Weights {
    fn eq(&self, other: &Weights) -> bool {
        let within = |a: &Weights, b: &Weights| a.iter().all(|(version, parts)| b.of(version) == parts);
        within(self, other) && within(other, self)
    }
}

impl Eq for Weights {}

impl TryFrom<Vec<(String, u32)>> for Weights {
    type Error = WeightsError;
    fn try_from(shares: Vec<(String, u32)>) -> Result<Self, WeightsError> {
        Weights::new(shares)
    }
}

impl From<Weights> for Vec<(String, u32)> {
    fn from(weights: Weights) -> Self {
        weights.0
    }
}

/// `250` is `2.5`.
pub fn percent(parts: u32) -> f64 {
    f64::from(parts) / 100.0
}
