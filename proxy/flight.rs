//! One request under way: its guard against being counted twice or not at all.
//!
//! It travels with the request and then with the answer's body. Dropped before
//! it is settled, the request was given up by the client and counts against
//! nobody.

use std::cell::Cell;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::clock;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flights::Key;
use crate::flights::Toss;
use crate::lane::Lane;
use crate::lane::View;
use crate::outcome::Outcome;
use crate::outcome::Verdict;
use crate::pair::Pair;
use crate::reading::Way;
use crate::split::Choice;
use crate::table::VersionPlan;
use crate::tally::Shard;
use crate::timeouts::Timeouts;
use crate::upstream::Busy;

pub struct Flight {
    pub lane: Rc<Lane>,
    pub view: Rc<View>,
    pub key: Key,
    split: usize,
    version: usize,
    pub started_us: u64,
    pub timeouts: Timeouts,
    /// Of the request, where its route makes one and a version chooses by it.
    pub hash: Option<u64>,
    /// What its id was made of, where it has none of its own.
    pub id: Cell<[u64; 2]>,
    /// Counts at the endpoint that is asked.
    busy: RefCell<Option<Busy>>,
    /// Its coin, where a copy may be compared with it, and then what they share.
    toss: Option<Rc<Toss>>,
    pair: RefCell<Option<Rc<Pair>>>,
    settled: Cell<bool>,
}

impl Flight {
    /// Counts the request as begun, under the coin that was tossed for it.
    pub fn begin(
        lane: &Rc<Lane>,
        view: Rc<View>,
        split: usize,
        toss: Rc<Toss>,
        choice: &Choice,
        timeouts: Timeouts,
        has_body: bool,
    ) -> Flight {
        let plan = &view.table.splits[split];
        let may_pair = choice.way == Way::Tossed
            && choice.version == plan.primary
            && plan.mirror.as_ref().is_some_and(|(_, mirror)| mirror.on_trial);
        let kept = may_pair.then(|| toss.clone());
        let (key, started_us) = lane.flights.begin(toss, choice.version, choice.way, &timeouts);
        if !has_body && timeouts.total_us != 0 {
            lane.flights.request_ended(key);
        }
        let flight = Flight {
            lane: lane.clone(),
            view,
            key,
            split,
            version: choice.version,
            started_us,
            timeouts,
            hash: None,
            id: Cell::default(),
            busy: RefCell::default(),
            toss: kept,
            pair: RefCell::default(),
            settled: Cell::new(false),
        };
        flight.shard().begin();
        flight
    }

    /// The endpoint that was asked before, if any, has one less under way.
    pub fn occupy(&self, busy: Option<Busy>) {
        self.busy.replace(busy);
    }

    /// Its answer will be held beside that of a copy, which ends what this gives.
    pub fn pair(&self) -> Option<Rc<Pair>> {
        let toss = self.toss.clone()?;
        let pair = Pair::new(toss, self.lane.index, self.lane.flights.alarm());
        self.pair.replace(Some(pair.clone()));
        Some(pair)
    }

    pub fn plan(&self) -> &VersionPlan {
        &self.view.table.splits[self.split].versions[self.version]
    }

    /// This worker's counters of the request's version.
    pub fn shard(&self) -> &Shard {
        self.plan().slot.shard(self.lane.index)
    }

    /// Until the request, or its present attempt, must be answered; if ever.
    pub fn time_left_us(&self) -> Option<u64> {
        self.lane.flights.time_left_us(self.key, clock::now_us())
    }

    pub fn age_us(&self) -> u64 {
        clock::now_us().saturating_sub(self.started_us)
    }

    /// Waits for `future`, but no longer than the request may take.
    pub async fn within<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            match self.overdue(cx.waker()) {
                Some(fault) => Poll::Ready(Err(fault)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Sleeps until the time set for the next attempt.
    pub async fn rest(&self) {
        poll_fn(|cx| match self.lane.flights.is_napping(self.key, cx.waker()) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
        .await;
    }

    pub fn overdue(&self, waker: &Waker) -> Option<Fault> {
        self.lane.flights.expired(self.key, waker)
    }

    /// Counts the request, once; later calls change nothing.
    pub fn settle(&self, outcome: Outcome) {
        if !self.settled.get() {
            self.settle_at(outcome, self.age_us());
        }
    }

    /// The same for who knows how old the request is.
    pub fn settle_at(&self, outcome: Outcome, age_us: u64) {
        if !self.settled.replace(true) {
            self.shard().end(outcome, age_us);
            if outcome.verdict != Verdict::Uncounted {
                self.shard().exemplify(self.id.get(), age_us, self.started_us + age_us);
            }
            self.lane.flights.settle(self.key, outcome.verdict, age_us);
            if let Some(pair) = self.pair.take() {
                pair.end(self.version, outcome.verdict, age_us);
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.settle(Outcome::of_fault(Fault::downstream(Kind::ClientGone)));
        self.lane.flights.end(self.key);
    }
}
