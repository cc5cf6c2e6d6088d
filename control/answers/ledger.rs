//! What was seen of one split's answers so far, and what it says. Pure.
//!
//! Of the comparisons in which a place differs with one of the two alone, each is a toss
//! of a fair coin while the versions answer alike: whose was it? It is bet on like a
//! failure of mirrored requests. The k-th place that ever differs begins with 1 / k(k+1)
//! of the money, so all places together own 1, however many there are; which place is
//! the k-th is known before its first toss.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::Settings;
use super::look::{LeftOut, Look, Seen};
use crate::judge::alternatives::skewed;
use crate::judge::failures::{Failed, factor};
use crate::judge::logs::{log_add, log_sum};

/// Places known by name; what differs elsewhere is one place.
const PLACES: usize = 500;
const ELSEWHERE: &str = "elsewhere";
/// How many odds are bet on: 2, 4, ... 256 to 1.
const ODDS: i32 = 8;
/// Places that are named where there is room for few.
const NAMED: usize = 5;

pub struct Ledger {
    pub version: String,
    /// Grows when it begins anew.
    life: u64,
    alpha: f64,
    compared: u64,
    canary_only: u64,
    left_out: BTreeMap<LeftOut, u64>,
    places: BTreeMap<String, Entry>,
    standing: Arc<Standing>,
}

struct Entry {
    /// Logarithm of its share of the money.
    share: f64,
    canary: u64,
    primary: u64,
    both: u64,
    /// Logarithm of what each bet owns.
    bets: Vec<f64>,
    /// The most that all of them have owned.
    peak: f64,
    route: String,
    example: Option<Example>,
}

/// Where it stands, for whoever decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub life: u64,
    pub compared: u64,
    /// Comparisons in which the canary alone differed somewhere.
    pub canary_only: u64,
    /// Logarithm of what all bets own.
    pub log_e: f64,
    /// Places that differ beyond doubt, and the first of their names.
    pub differing: u64,
    pub places: Vec<String>,
}

/// The answers of one service, compared.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Differences {
    pub service: String,
    /// The version that is compared with the primary.
    #[schema(required = true)]
    pub version: Option<String>,
    /// Requests whose answers were compared, and those of which the body or nothing
    /// could be, by reason: unanswered, encoded, too_long.
    pub compared: u64,
    pub left_out: BTreeMap<String, u64>,
    /// Places that differ beyond doubt.
    pub differing: u64,
    /// Every place that has differed, those that differ by the version first.
    pub places: Vec<Difference>,
}

#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    /// `status`, `header NAME`, `body`, or a path in a JSON body; with `(type)` or
    /// `(presence)` where not the value is meant.
    pub place: String,
    /// The version differs, not only the place by itself.
    pub differs: bool,
    /// Comparisons in which the version's answer differed from the primary's, and those
    /// in which the primary's second answer did.
    pub version: u64,
    pub primary: u64,
    /// Of these, where the other did not.
    pub version_only: u64,
    pub primary_only: u64,
    /// Natural logarithm of the evidence that the version differs, at its most, and what
    /// is needed.
    pub log_e: f64,
    pub needed: f64,
    /// The route of the request that differed first.
    pub route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<Example>,
}

/// Values of one request, shortened, and its path.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Example {
    pub path: String,
    pub primary: String,
    pub version: String,
}

impl Ledger {
    pub fn new(life: u64, settings: &Settings) -> Ledger {
        Ledger {
            version: String::new(),
            life,
            alpha: settings.alpha,
            compared: 0,
            canary_only: 0,
            left_out: BTreeMap::new(),
            places: BTreeMap::new(),
            standing: Arc::new(Standing { life, ..Standing::default() }),
        }
    }

    pub fn standing(&self) -> Arc<Standing> {
        self.standing.clone()
    }

    pub fn record(&mut self, look: Look, route: &str, path: &str) {
        if let Some(why) = look.left_out {
            *self.left_out.entry(why).or_default() += 1;
        }
        if look.left_out == Some(LeftOut::Unanswered) {
            return;
        }
        self.compared += 1;
        self.canary_only += u64::from(look.places.values().any(|seen| seen.canary && !seen.again));
        let mut elsewhere: Option<Seen> = None;
        for (place, seen) in look.places {
            if self.places.len() >= PLACES && !self.places.contains_key(&place) {
                let known = elsewhere.get_or_insert_default();
                known.canary |= seen.canary;
                known.again |= seen.again;
                continue;
            }
            self.toss(place, seen, route, path);
        }
        if let Some(seen) = elsewhere {
            self.toss(ELSEWHERE.to_owned(), seen, route, path);
        }
        self.settle();
    }

    fn toss(&mut self, place: String, seen: Seen, route: &str, path: &str) {
        let rank = self.places.len() as f64 + 1.0;
        let entry = self.places.entry(place).or_insert_with(|| Entry::new(rank, route));
        match (seen.canary, seen.again) {
            (true, false) => entry.bet(Failed { canary: 1, primary: 0, w: 0.5 }),
            (false, true) => entry.bet(Failed { canary: 0, primary: 1, w: 0.5 }),
            _ => entry.both += 1,
        }
        // One that the primary does not show is the better example.
        if let Some((primary, version)) = seen.example
            && (entry.example.is_none() || !seen.again && entry.canary == 1)
        {
            entry.example = Some(Example { path: path.to_owned(), primary, version });
        }
    }

    fn settle(&mut self) {
        // What no place has been given yet waits in cash.
        let mut owned = -(self.places.len() as f64 + 1.0).ln();
        let mut places = Vec::new();
        for (place, entry) in &self.places {
            owned = log_add(owned, entry.share + entry.log_e());
            if self.differs(entry) && !self.is_told_by_value(place) {
                places.push(place.clone());
            }
        }
        let differing = places.len() as u64;
        places.truncate(NAMED);
        self.standing = Arc::new(Standing {
            life: self.life,
            compared: self.compared,
            canary_only: self.canary_only,
            log_e: owned,
            differing,
            places,
        });
    }

    fn differs(&self, entry: &Entry) -> bool {
        entry.peak + entry.share >= -self.alpha.ln()
    }

    /// What differs in its value beyond doubt needs no second line about its type.
    fn is_told_by_value(&self, place: &str) -> bool {
        let value = place.strip_suffix(" (type)").or_else(|| place.strip_suffix(" (presence)"));
        value.and_then(|value| self.places.get(value)).is_some_and(|entry| self.differs(entry))
    }

    pub fn report(&self, service: &str) -> Differences {
        let of = |(place, entry): (&String, &Entry)| Difference {
            place: place.clone(),
            differs: self.differs(entry),
            version: entry.canary + entry.both,
            primary: entry.primary + entry.both,
            version_only: entry.canary,
            primary_only: entry.primary,
            log_e: entry.peak,
            needed: -self.alpha.ln() - entry.share,
            route: entry.route.clone(),
            example: entry.example.clone(),
        };
        let shown = |(place, _): &(&String, &Entry)| !self.is_told_by_value(place);
        let mut places: Vec<Difference> = self.places.iter().filter(shown).map(of).collect();
        places.sort_by_key(|place| {
            (!place.differs, std::cmp::Reverse(place.version_only), place.place.clone())
        });
        Differences {
            service: service.to_owned(),
            version: Some(self.version.clone()).filter(|version| !version.is_empty()),
            compared: self.compared,
            left_out: self.left_out.iter().map(|(why, count)| (why.name().to_owned(), *count)).collect(),
            differing: self.standing.differing,
            places,
        }
    }
}

impl Entry {
    fn new(rank: f64, route: &str) -> Entry {
        Entry {
            share: -(rank * (rank + 1.0)).ln(),
            canary: 0,
            primary: 0,
            both: 0,
            bets: skewed(ODDS as usize).into_iter().map(f64::ln).collect(),
            peak: 0.0,
            route: route.to_owned(),
            example: None,
        }
    }

    fn bet(&mut self, toss: Failed) {
        self.canary += toss.canary;
        self.primary += toss.primary;
        for (bet, j) in self.bets.iter_mut().zip(1..) {
            *bet += factor(toss, 1.0, 2.0_f64.powi(j));
        }
        self.peak = self.peak.max(self.log_e());
    }

    fn log_e(&self) -> f64 {
        log_sum(&self.bets)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn ledger(alpha: f64) -> Ledger {
        Ledger::new(1, &Settings { alpha, ..Settings::default() })
    }

    /// `names[i]` differs with the canary and with the primary's second answer so often.
    fn play(ledger: &mut Ledger, random: &mut SmallRng, noise: &[(f64, f64)], looks: usize) {
        for _ in 0..looks {
            let mut look = Look::default();
            for (i, (canary, again)) in noise.iter().enumerate() {
                let seen = Seen {
                    canary: random.random_bool(*canary),
                    again: random.random_bool(*again),
                    example: None,
                };
                if seen.canary || seen.again {
                    look.places.insert(format!("$.f{i}"), seen);
                }
            }
            ledger.record(look, "all", "/");
        }
    }

    #[test]
    fn versions_that_are_equal_but_noisy_are_called_different_no_more_often_than_allowed() {
        const LIVES: u64 = 400;
        let noise: Vec<(f64, f64)> =
            (0..20).map(|i| f64::from(i) / 20.0).map(|share| (share, share)).collect();
        let (mut told, mut owned) = (0, 0.0);
        for seed in 0..LIVES {
            let mut ledger = ledger(0.05);
            play(&mut ledger, &mut SmallRng::seed_from_u64(seed), &noise, 120);
            told += u64::from(ledger.standing().differing > 0);
            owned += ledger.standing().log_e.exp();
        }
        // 5 % and three standard errors.
        assert!(told <= 33, "{told} of {LIVES} lives of equal versions had a difference");
        // What all bets own is 1 on average; it is very skewed, so it is mostly less.
        assert!(owned / LIVES as f64 <= 2.0, "the bets won {}", owned / LIVES as f64);
    }

    #[test]
    fn a_place_that_differs_by_the_version_is_found_among_noise() {
        let mut noise: Vec<(f64, f64)> =
            (0..40).map(|i| (f64::from(i) / 40.0, f64::from(i) / 40.0)).collect();
        noise[3] = (1.0, 0.05);
        for seed in 0..50 {
            let mut ledger = ledger(0.001);
            play(&mut ledger, &mut SmallRng::seed_from_u64(seed), &noise, 60);
            let standing = ledger.standing();
            assert!(standing.places.contains(&"$.f3".to_owned()), "seed {seed}: {standing:?}");
            assert!(standing.log_e > 1_000_f64.ln(), "seed {seed}: {standing:?}");
        }
    }

    #[test]
    fn a_steady_difference_is_certain_after_a_dozen_looks() {
        let mut ledger = ledger(0.001);
        let mut random = SmallRng::seed_from_u64(1);
        play(&mut ledger, &mut random, &[(1.0, 0.0)], 10);
        assert_eq!(ledger.standing().differing, 0, "nobody is that sure after ten");
        play(&mut ledger, &mut random, &[(1.0, 0.0)], 8);
        let report = ledger.report("web");
        assert_eq!((report.compared, report.differing), (18, 1));
        let place = &report.places[0];
        assert_eq!((place.place.as_str(), place.version_only, place.primary), ("$.f0", 18, 0));
        assert!(place.differs && place.log_e >= place.needed);
    }

    #[test]
    fn what_differs_in_both_says_nothing_however_often() {
        let mut ledger = ledger(0.001);
        play(&mut ledger, &mut SmallRng::seed_from_u64(1), &[(1.0, 1.0)], 1_000);
        let standing = ledger.standing();
        assert_eq!((standing.differing, standing.canary_only), (0, 0));
        assert!(standing.log_e.abs() < 1e-9);
    }

    #[test]
    fn places_have_a_bound_and_what_is_elsewhere_is_one() {
        let mut ledger = ledger(0.001);
        for round in 0..3 {
            for n in 0..1_000 {
                let seen = Seen { canary: true, ..Seen::default() };
                let places = BTreeMap::from([(format!("$.r{round}n{n}"), seen)]);
                ledger.record(Look { places, left_out: None }, "all", "/");
            }
        }
        assert_eq!(ledger.places.len(), PLACES + 1);
        assert_eq!(ledger.places[ELSEWHERE].canary, 2_500);
        let money: f64 = ledger.places.values().map(|entry| entry.share.exp()).sum();
        assert!(money <= 1.0 + 1e-9, "all places together began with {money}");
    }

    #[test]
    fn a_type_is_told_only_where_the_value_does_not_tell_it() {
        let mut ledger = ledger(0.001);
        for _ in 0..30 {
            let seen = |canary, again| Seen { canary, again, example: None };
            let places = [("$.a", (true, false)), ("$.a (type)", (true, false))]
                .into_iter()
                .chain([("$.id", (true, true)), ("$.id (type)", (true, false))])
                .map(|(place, (canary, again))| (place.to_owned(), seen(canary, again)));
            ledger.record(Look { places: places.collect(), left_out: None }, "all", "/");
        }
        assert_eq!(ledger.standing().places, ["$.a", "$.id (type)"]);
    }
}
