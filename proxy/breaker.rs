//! The bounds on what may be under way to one version, over all workers.
//!
//! What is not bounded is not counted: without a bound no worker writes where
//! another does. Retries are the exception, being rare.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model;
use crate::model::RetryBound;
use crate::reading::BreakerReading;

/// A version's bounds, and how much of each is taken.
#[derive(Clone)]
pub struct Breaker {
    bounds: [Option<u32>; 3],
    retries: RetryBound,
    taken: Arc<Taken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Connections,
    Pending,
    Requests,
    Retries,
}

/// Outlives a reload: what is under way then is still to be given back.
#[derive(Default)]
pub struct Taken([AtomicU32; 4]);

/// One of what is bounded; given back when dropped.
pub struct Permit {
    taken: Arc<Taken>,
    what: What,
}

/// The bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Breaker {
    /// `before` is what the version had taken under an earlier model.
    pub fn new(model: &model::Breaker, before: Option<&Breaker>) -> Breaker {
        Breaker {
            bounds: [model.connections, model.pending, model.requests],
            retries: model.retries,
            taken: before.map(|before| before.taken.clone()).unwrap_or_default(),
        }
    }

    /// The same for a version as long as it lives, and its alone.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.taken) as usize
    }

    pub fn bound(&self, what: What) -> Option<u32> {
        self.bounds.get(what as usize).copied().flatten()
    }

    fn taken(&self, what: What) -> u32 {
        self.taken.0[what as usize].load(Ordering::Relaxed)
    }

    /// What is bounded, in the order of [`What`].
    pub fn read(&self, active: impl FnOnce() -> u64) -> [Option<BreakerReading>; 4] {
        let named = [
            ("connections", What::Connections),
            ("pending", What::Pending),
            ("requests", What::Requests),
            ("retries", What::Retries),
        ];
        let retries = self.retries_allowed(active);
        named.map(|(name, what)| {
            let most = if what == What::Retries { retries } else { self.bound(what)? };
            Some(BreakerReading { what: name, taken: self.taken(what), most })
        })
    }

    /// `None` where there is no bound to keep.
    pub fn take(&self, what: What) -> Result<Option<Permit>, Full> {
        self.bound(what).map(|most| self.take_up_to(what, most)).transpose()
    }

    /// Takes one however many are taken, so that they are counted at least.
    pub fn take_anyway(&self, what: What) -> Option<Permit> {
        self.bound(what)?;
        self.take_up_to(what, u32::MAX).ok()
    }

    /// `active` is asked for the version's requests under way.
    pub fn take_retry(&self, active: impl FnOnce() -> u64) -> Result<Permit, Full> {
        self.take_up_to(What::Retries, self.retries_allowed(active))
    }

    pub fn retries_allowed(&self, active: impl FnOnce() -> u64) -> u32 {
        match self.retries {
            RetryBound::Most(most) => most,
            RetryBound::Budget { percent, least } => {
                let share = active().saturating_mul(u64::from(percent)) / 100;
                least.max(u32::try_from(share).unwrap_or(u32::MAX))
            }
        }
    }

    fn take_up_to(&self, what: What, most: u32) -> Result<Permit, Full> {
        let count = &self.taken.0[what as usize];
        if count.fetch_add(1, Ordering::Relaxed) < most {
            return Ok(Permit { taken: self.taken.clone(), what });
        }
        count.fetch_sub(1, Ordering::Relaxed);
        Err(Full)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.0[self.what as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(model: model::Breaker) -> Breaker {
        Breaker::new(&model, None)
    }

    #[test]
    fn what_is_taken_is_given_back_and_no_more_than_the_bound_is_given() {
        let breaker = breaker(model::Breaker { requests: Some(2), ..Default::default() });
        let held: Vec<_> = (0..2).map(|_| breaker.take(What::Requests).unwrap()).collect();
        assert!(breaker.take(What::Requests).is_err_and(|full| full == Full));
        assert_eq!(breaker.taken(What::Requests), 2);
        drop(held);
        assert!(breaker.take(What::Requests).is_ok_and(|permit| permit.is_some()));
    }

    #[test]
    fn without_a_bound_nothing_is_counted() {
        let breaker = breaker(model::Breaker::default());
        assert!(breaker.take(What::Pending).is_ok_and(|permit| permit.is_none()));
        assert!(breaker.take_anyway(What::Connections).is_none());
    }

    #[test]
    fn retries_are_a_share_of_what_is_under_way_but_always_some() {
        let budget = breaker(model::Breaker::default());
        for (active, allowed) in [(0, 3), (10, 3), (20, 4), (1000, 200)] {
            assert_eq!(budget.retries_allowed(|| active), allowed, "{active}");
        }
        let most = breaker(model::Breaker { retries: RetryBound::Most(0), ..Default::default() });
        assert!(most.take_retry(|| 1000).is_err());
    }

    #[test]
    fn a_reload_knows_what_is_taken() {
        let before = breaker(model::Breaker { requests: Some(1), ..Default::default() });
        let held = before.take(What::Requests);
        let after = Breaker::new(&model::Breaker { requests: Some(1), ..Default::default() }, Some(&before));
        assert!(after.take(What::Requests).is_err());
        drop(held);
        assert!(after.take(What::Requests).is_ok());
    }
}
