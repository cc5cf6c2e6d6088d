//! The weights of one split, in hundredths of a percent; they always sum to the whole.
//!
//! Beside them stand two shares that a rollout moves in the same instant: of the
//! requests that a trial's rules name, how many obey them, and of the primary's
//! requests, how many are copied. They are no weights of versions and usually none.

use serde::{Deserialize, Serialize};

/// One hundred percent.
pub const WHOLE: u32 = 10_000;

/// Version name and its share, in the order given. Sums to [`WHOLE`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Weights {
    shares: Vec<(String, u32)>,
    matched: u32,
    copied: u32,
}

/// As text: a list of shares alone where there is nothing beside them.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Alone(Vec<(String, u32)>),
    Beside {
        shares: Vec<(String, u32)>,
        #[serde(default)]
        matched: u32,
        #[serde(default)]
        copied: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    #[error("weights sum to {}, not to 100", percent(*.0))]
    Sum(u32),
    #[error("version {0:?} is given a weight twice")]
    Twice(String),
    #[error("{} percent is no share", percent(*.0))]
    Share(u32),
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
        Ok(Weights { shares, matched: 0, copied: 0 })
    }

    /// All of `parts` to `canary`, the rest to `primary`.
    pub fn pair(primary: &str, canary: &str, parts: u32) -> Weights {
        let parts = parts.min(WHOLE);
        let shares = vec![(primary.to_owned(), WHOLE - parts), (canary.to_owned(), parts)];
        Weights { shares, matched: 0, copied: 0 }
    }

    /// With a trial under way: so much of what its rules name obeys them, and so
    /// much of the primary's requests is copied.
    pub fn on_trial(self, matched: u32, copied: u32) -> Weights {
        Weights { matched: matched.min(WHOLE), copied: copied.min(WHOLE), ..self }
    }

    /// Of the requests that a trial's rules name, the share that obeys.
    pub fn matched(&self) -> u32 {
        self.matched
    }

    /// Of the primary's requests, the share that a trial's mirror copies.
    pub fn copied(&self) -> u32 {
        self.copied
    }

    /// Share of a version; one that is not named has none.
    pub fn of(&self, version: &str) -> u32 {
        self.shares.iter().find(|(name, _)| name == version).map_or(0, |(_, parts)| *parts)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.shares.iter().map(|(name, parts)| (name.as_str(), *parts))
    }
}

/// Equal shares, whatever the order and however zero is written: a version that
/// is added without traffic changes nothing.
impl PartialEq for Weights {
    fn eq(&self, other: &Weights) -> bool {
        let within = |a: &Weights, b: &Weights| a.iter().all(|(version, parts)| b.of(version) == parts);
        within(self, other)
            && within(other, self)
            && (self.matched, self.copied) == (other.matched, other.copied)
    }
}

impl Eq for Weights {}

impl TryFrom<Written> for Weights {
    type Error = WeightsError;
    fn try_from(written: Written) -> Result<Self, WeightsError> {
        let (shares, matched, copied) = match written {
            Written::Alone(shares) => (shares, 0, 0),
            Written::Beside { shares, matched, copied } => (shares, matched, copied),
        };
        match [matched, copied].into_iter().find(|share| *share > WHOLE) {
            Some(share) => Err(WeightsError::Share(share)),
            None => Ok(Weights::new(shares)?.on_trial(matched, copied)),
        }
    }
}

impl From<Weights> for Written {
    fn from(Weights { shares, matched, copied }: Weights) -> Self {
        match (matched, copied) {
            (0, 0) => Written::Alone(shares),
            _ => Written::Beside { shares, matched, copied },
        }
    }
}

/// `250` is `2.5`.
pub fn percent(parts: u32) -> f64 {
    f64::from(parts) / 100.0
}
