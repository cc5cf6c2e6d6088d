//! One request under way: its guard against being counted twice or not at all.
//!
//! It travels with the request and then with the answer's body. Dropped before
//! it is settled, the request was given up by the client and counts against
//! nobody.

use std::cell::Cell;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;

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
use crate::split::Choice;
use crate::table::VersionPlan;
use crate::tally::Shard;
use crate::timeouts::Timeouts;
use crate::upstream::Busy;

pub struct Flight {
    pub lane: Rc<Lane>,
    pub view: Rc<View>,
    pub key: Key,
    pub split: usize,
    version: usize,
    pub started_us: u64,
    pub timeouts: Timeouts,
    /// Of the request, where its route makes one and a version chooses by it.
    pub hash: Option<u64>,
    /// What its id was made of, where it has none of its own.
    pub id: Cell<[u64; 2]>,
    /// One of our own load, counted apart from those of users.
    load: bool,
    /// Counts at the endpoint that is asked.
    busy: RefCell<Option<Busy>>,
    /// With a copy that was sent to a mirror.
    pub pair: OnceCell<Rc<Pair>>,
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
        let (key, started_us) = lane.flights.begin(toss, choice, &timeouts);
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
            load: choice.load,
            busy: RefCell::default(),
            pair: OnceCell::new(),
            settled: Cell::new(false),
        };
        flight.shard().begin();
        flight
    }

    /// The endpoint that was asked before, if any, has one less under way.
    pub fn occupy(&self, busy: Option<Busy>) {
        self.busy.replace(busy);
    }

    pub fn plan(&self) -> &VersionPlan {
        &self.view.table.splits[self.split].versions[self.version]
    }

    /// This worker's counters of the request's version.
    pub fn shard(&self) -> &Shard {
        self.shard_of(self.plan())
    }

    /// The same of another version.
    pub fn shard_of<'p>(&self, plan: &'p VersionPlan) -> &'p Shard {
        plan.asked(self.load).shard(self.lane.index)
    }

    /// Until the request, or its present attempt, must be answered; if ever.
    pub fn time_left_us(&self) -> Option<u64> {
        self.lane.flights.time_left_us(self.key, clock::now_us())
    }

    pub fn age_us(&self) -> u64 {
        clock::now_us().saturating_sub(self.started_us)
    }

    /// Waits for `future`, but no longer than the request may take.
    pub fn within<F: Future>(&self, future: F) -> Within<'_, F> {
        Within { flight: self, future }
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
            let late = self.timeouts.fails_after_us != 0 && age_us > self.timeouts.fails_after_us;
            let outcome = match outcome.verdict {
                Verdict::Success if late => outcome.failed(),
                _ => outcome,
            };
            if let Some(pair) = self.pair.get() {
                pair.original(outcome.verdict, age_us);
            }
            let shard = self.shard();
            if outcome.verdict != Verdict::Uncounted {
                shard.exemplify(self.id.get(), age_us, self.started_us + age_us);
            }
            shard.end(outcome, age_us);
            self.lane.flights.settle(self.key, outcome.verdict, age_us);
        }
    }
}

pin_project! {
    /// A future of its own, because an async block would hold what it waits for twice.
    pub struct Within<'f, F> {
        flight: &'f Flight,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Result<F::Output, Fault>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<F::Output, Fault>> {
        let within = self.project();
        if let Poll::Ready(output) = within.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match within.flight.overdue(cx.waker()) {
            Some(fault) => Poll::Ready(Err(fault)),
            None => Poll::Pending,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.settle(Outcome::of_fault(Fault::downstream(Kind::ClientGone)));
        self.lane.flights.end(self.key);
    }
}
