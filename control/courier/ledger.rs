//! What came of everything that was sent and asked, by receiver: how much, how often
//! in vain, how long it took, and what still waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serin_proxy::histogram::Histogram;

/// Receivers that are told of; what more there are is told together.
const MOST: usize = 1_024;
const OTHERS: &str = "others";

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<String, Account>>>);

/// One receiver's.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub delivered: u64,
    /// Tried as often as it may be, or refused for good.
    pub failed: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    pub waiting: u64,
    /// From the first attempt on, pauses between two included.
    pub took: Histogram,
}

impl Ledger {
    pub fn waits(&self, receiver: &str) {
        self.with(receiver, |account| account.waiting += 1);
    }

    /// It waits no more, whatever came of it.
    pub fn taken(&self, receiver: &str) {
        self.with(receiver, |account| account.waiting = account.waiting.saturating_sub(1));
    }

    /// `attempts` may be none, where it could not even be written.
    pub fn ended(&self, receiver: &str, is_delivered: bool, attempts: u32, took: Duration) {
        self.with(receiver, |account| {
            let count = if is_delivered { &mut account.delivered } else { &mut account.failed };
            *count += 1;
            account.retries += u64::from(attempts.saturating_sub(1));
            account.took.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        });
    }

    pub fn read(&self) -> BTreeMap<String, Account> {
        self.accounts().clone()
    }

    fn with(&self, receiver: &str, act: impl FnOnce(&mut Account)) {
        let mut accounts = self.accounts();
        let is_known = accounts.contains_key(receiver) || accounts.len() < MOST;
        act(accounts.entry(if is_known { receiver } else { OTHERS }.to_owned()).or_default());
    }

    fn accounts(&self) -> MutexGuard<'_, BTreeMap<String, Account>> {
        self.0.lock().expect("no holder panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_receiver_has_its_own_account_and_there_are_no_end_of_them() {
        let ledger = Ledger::default();
        ledger.waits("receiver team");
        ledger.waits("receiver team");
        ledger.taken("receiver team");
        ledger.ended("receiver team", true, 3, Duration::from_millis(20));
        ledger.ended("receiver team", false, 0, Duration::ZERO);
        let team = &ledger.read()["receiver team"];
        assert_eq!((team.delivered, team.failed, team.retries, team.waiting), (1, 1, 2, 1));
        assert_eq!(team.took.count(), 2);
        (0..2 * MOST).for_each(|nth| ledger.ended(&format!("receiver {nth}"), true, 1, Duration::ZERO));
        let accounts = ledger.read();
        assert_eq!(accounts.len(), MOST + 1);
        assert_eq!(accounts.values().map(|account| account.delivered).sum::<u64>(), 2 * MOST as u64 + 1);
    }
}
