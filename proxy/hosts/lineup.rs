//! The endpoints of a version at one moment, in order, and how much of the
//! requests each priority gets: Envoy's arithmetic of overprovisioning, spill-over
//! and panic.

use std::sync::Arc;

use super::Host;
use crate::balance::Keyed;
use crate::balance::Maglev;
use crate::balance::Ring;
use crate::model::Algorithm;
use crate::model::Balance;

/// A priority with this many healthy endpoints per hundred still takes all that
/// is meant for it, times a hundred: 1.4 as in Envoy.
const OVERPROVISIONING: u32 = 140;

pub struct Lineup {
    /// All of them, in the order of the file; a name's in the order of its addresses.
    pub hosts: Vec<Arc<Host>>,
    /// By priority; those without an endpoint are there and get nothing.
    pub tiers: Vec<Tier>,
    /// None of them is well; who is asked all the same is asked in a panic.
    pub is_down: bool,
}

/// The endpoints of one priority.
#[derive(Debug, Default, PartialEq)]
pub struct Tier {
    /// Requests of a hundred that go here.
    pub load: u32,
    /// Too few are healthy, so all are asked.
    pub panics: bool,
    /// Positions in [`Lineup::hosts`] of those that may be picked.
    pub open: Vec<usize>,
    table: Option<HashTable>,
}

/// Made here, once for all workers: it takes milliseconds to fill.
#[derive(Debug, PartialEq)]
enum HashTable {
    Ring(Ring),
    Maglev(Maglev),
}

impl Tier {
    /// The position in `open` that a hash leads to.
    pub fn find(&self, hash: u64, further: u32) -> Option<usize> {
        match self.table.as_ref()? {
            HashTable::Ring(ring) => ring.find(hash, further),
            HashTable::Maglev(maglev) => maglev.find(hash, further),
        }
    }
}

impl Lineup {
    pub fn new(hosts: Vec<Arc<Host>>, balance: &Balance) -> Lineup {
        let count = hosts.iter().map(|host| host.priority as usize + 1).max().unwrap_or(0);
        let members = |priority: usize, wanted: &dyn Fn(&Host) -> bool| -> Vec<usize> {
            let is_member = |host: &Host| host.priority as usize == priority && wanted(host);
            (0..hosts.len()).filter(|index| is_member(&hosts[*index])).collect()
        };
        // Where nobody is known to be well, who has not been asked yet may be.
        let known = hosts.iter().any(|host| host.vitals.is_healthy());
        let is_fit = |host: &Host| host.vitals.is_healthy() || (!known && host.vitals.may_be_healthy());
        let census: Vec<Census> = (0..count)
            .map(|priority| Census {
                all: members(priority, &|_| true).len() as u32,
                healthy: members(priority, &is_fit).len() as u32,
            })
            .collect();
        let mut tiers = shares(&census, balance.panic_percent);
        for (priority, tier) in tiers.iter_mut().enumerate() {
            tier.open = members(priority, &|host| tier.panics || is_fit(host));
            let open: Vec<&Host> = tier.open.iter().map(|index| &*hosts[*index]).collect();
            tier.table = table(&open, &balance.algorithm);
        }
        let is_down = !hosts.iter().any(|host| is_fit(host));
        Lineup { hosts, tiers, is_down }
    }

    /// The tier that a uniform number falls to.
    pub fn tier(&self, uniform: u64) -> Option<usize> {
        if self.tiers.len() < 2 {
            return (!self.tiers.is_empty()).then_some(0);
        }
        let place = (uniform % 100) as u32 + 1;
        let mut sum = 0;
        self.tiers.iter().position(|tier| {
            sum += tier.load;
            place <= sum
        })
    }

    pub fn healthy(&self) -> usize {
        self.hosts.iter().filter(|host| host.vitals.is_healthy()).count()
    }
}

fn table(open: &[&Host], algorithm: &Algorithm) -> Option<HashTable> {
    let (Algorithm::RingHash { by_hostname, .. } | Algorithm::Maglev { by_hostname, .. }) = algorithm else {
        return None;
    };
    // Several without a hostname must not fall together: these go by address.
    let keys: Vec<String> = open
        .iter()
        .map(|host| match &host.hostname {
            Some(name) if *by_hostname => name.to_string(),
            _ => host.location.to_string(),
        })
        .collect();
    let sum: f64 = open.iter().map(|host| f64::from(host.weight)).sum();
    let entries: Vec<Keyed<'_>> = open
        .iter()
        .zip(&keys)
        .map(|(host, key)| Keyed { key, share: f64::from(host.weight) / sum })
        .collect();
    match algorithm {
        Algorithm::RingHash { min_size, max_size, function, .. } => {
            Some(HashTable::Ring(Ring::new(&entries, *min_size, *max_size, *function)))
        }
        Algorithm::Maglev { table_size, .. } => Some(HashTable::Maglev(Maglev::new(&entries, *table_size))),
        Algorithm::RoundRobin | Algorithm::LeastRequest { .. } | Algorithm::Random => None,
    }
}

struct Census {
    all: u32,
    healthy: u32,
}

/// Load and panic of each priority; their loads sum to a hundred.
fn shares(census: &[Census], panic_percent: u32) -> Vec<Tier> {
    let mut tiers: Vec<Tier> = census.iter().map(|_| Tier::default()).collect();
    if tiers.is_empty() {
        return tiers;
    }
    let health = |tier: &Census| match tier.all {
        0 => 0,
        all => (OVERPROVISIONING * tier.healthy / all).min(100),
    };
    let total = census.iter().map(health).sum::<u32>().min(100);
    let mut rest = 100;
    for (tier, census) in tiers.iter_mut().zip(census) {
        tier.load = (health(census) * 100).checked_div(total).unwrap_or(0).min(rest);
        rest -= tier.load;
    }
    // What is left is what rounding took.
    if let Some(first) = census.iter().position(|tier| health(tier) > 0) {
        tiers[first].load += rest;
    }
    if panic_percent == 0 && total == 0 {
        tiers[0].load = 100;
        return tiers;
    }
    for (tier, census) in tiers.iter_mut().zip(census) {
        let healthy_percent =
            if census.all == 0 { 0.0 } else { 100.0 * f64::from(census.healthy) / f64::from(census.all) };
        tier.panics = total < 100 && healthy_percent < f64::from(panic_percent);
    }
    if tiers.iter().all(|tier| tier.panics) {
        share_by_count(&mut tiers, census);
    }
    tiers
}

/// Nobody is healthy enough: by the number of endpoints, whatever their health.
fn share_by_count(tiers: &mut [Tier], census: &[Census]) {
    let total: u32 = census.iter().map(|tier| tier.all).sum();
    let Some(first) = census.iter().position(|tier| tier.all > 0) else {
        tiers[0].load = 100;
        return;
    };
    let mut rest = 100;
    for (tier, census) in tiers.iter_mut().zip(census) {
        tier.load = 100 * census.all / total;
        rest -= tier.load;
    }
    tiers[first].load += rest;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(census: &[(u32, u32)], panic_percent: u32) -> Vec<(u32, bool)> {
        let census: Vec<Census> = census.iter().map(|&(all, healthy)| Census { all, healthy }).collect();
        shares(&census, panic_percent).iter().map(|tier| (tier.load, tier.panics)).collect()
    }

    /// The table of Envoy's documentation on priority levels.
    #[test]
    fn lower_priorities_take_what_higher_ones_cannot() {
        for (healthy, expected) in
            [(100, [100, 0]), (72, [100, 0]), (71, [99, 1]), (50, [70, 30]), (25, [35, 65]), (0, [0, 100])]
        {
            let loads = loads(&[(100, healthy), (100, 100)], 50);
            assert_eq!([loads[0].0, loads[1].0], expected, "{healthy} % of the first are healthy");
            assert!(loads.iter().all(|(_, panics)| !panics), "together they have enough");
        }
    }

    #[test]
    fn levels_too_weak_together_are_scaled_to_a_hundred() {
        // Healths of 28 and 14, together 42: 67 and 33 hundredths; what rounding takes goes to the first.
        assert_eq!(loads(&[(10, 2), (10, 1)], 0), [(67, false), (33, false)]);
    }

    #[test]
    fn panic_asks_everybody_where_too_few_are_healthy() {
        assert_eq!(loads(&[(4, 1)], 50), [(100, true)]);
        assert_eq!(loads(&[(4, 2)], 50), [(100, false)], "half is enough for half");
        assert_eq!(loads(&[(4, 0)], 0), [(100, false)], "who wants no panic gets none");
        assert_eq!(loads(&[(3, 0), (1, 0)], 50), [(75, true), (25, true)]);
        assert_eq!(loads(&[(0, 0), (5, 5)], 50), [(0, false), (100, false)]);
        assert_eq!(loads(&[(0, 0), (0, 0)], 50), [(100, true), (0, true)]);
    }

    #[test]
    fn one_level_may_panic_beside_another_that_does_not() {
        assert_eq!(loads(&[(10, 1), (10, 6)], 50), [(15, true), (85, false)]);
    }
}
