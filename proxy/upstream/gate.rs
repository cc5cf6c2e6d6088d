//! The way to one endpoint's connections: how many of them one worker may open,
//! and the queue of the requests that wait for one.
//!
//! A request waits here only for connections of its own worker. That is enough
//! for it to be served one day: where a worker has no connection to an endpoint
//! it may always open one, whatever other workers hold.

use std::cell::Cell;
use std::cell::Ref;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::breaker::Full;
use crate::breaker::Permit;
use crate::breaker::What;
use crate::clock;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::rules::Rules;

/// Requests that wait for one endpoint, per worker, where no smaller bound is set.
const MAX_WAITING: u32 = 1024;

pub struct Gate {
    rules: RefCell<Arc<Rules>>,
    /// How many there may be open where the rules do not say.
    usual: Cell<u32>,
    open: Cell<u32>,
    waiting: Cell<u32>,
    freed: Notify,
}

/// One connection, counted as open as long as this lives.
pub struct Open {
    gate: Rc<Gate>,
    born_us: u64,
    served: Cell<u32>,
    _permit: Option<Permit>,
}

/// What a request that asks for a connection gets.
pub enum Admitted<T> {
    Kept(T),
    /// The right to open one.
    New(Open),
}

impl Gate {
    pub fn new(rules: &Arc<Rules>, usual: u32) -> Rc<Gate> {
        let (rules, usual) = (RefCell::new(rules.clone()), Cell::new(usual));
        Rc::new(Gate { rules, usual, open: Cell::new(0), waiting: Cell::new(0), freed: Notify::new() })
    }

    pub fn rules(&self) -> Ref<'_, Arc<Rules>> {
        self.rules.borrow()
    }

    /// A reload may have changed them.
    pub fn adopt(&self, rules: &Arc<Rules>) {
        if !Arc::ptr_eq(&self.rules.borrow(), rules) {
            *self.rules.borrow_mut() = rules.clone();
            self.freed.notify_waiters();
        }
    }

    /// The endpoint turns out to speak another protocol.
    pub fn set_usual(&self, usual: u32) {
        if self.usual.replace(usual) < usual {
            self.freed.notify_waiters();
        }
    }

    /// Those who wait come first.
    pub fn is_crowded(&self) -> bool {
        self.waiting.get() > 0
    }

    /// A place among the requests under way.
    pub fn request(&self) -> Result<Option<Permit>, Fault> {
        self.rules().breaker.take(What::Requests).map_err(overflow)
    }

    /// A place among those who wait, be it in the queue or for a dial.
    pub fn pending(&self) -> Result<Option<Permit>, Fault> {
        self.rules().breaker.take(What::Pending).map_err(overflow)
    }

    /// What `take` finds, or the right to open a connection; `fresh` asks for the
    /// second first. Waits until there is either.
    pub async fn admit<T>(
        self: &Rc<Self>,
        fresh: bool,
        take: impl Fn() -> Option<T>,
    ) -> Result<Admitted<T>, Fault> {
        let mut waiting = None;
        loop {
            if waiting.is_some() || !self.is_crowded() {
                let open = || self.open().map(Admitted::New);
                let kept = || take().map(Admitted::Kept);
                let found = if fresh { open().or_else(kept) } else { kept().or_else(open) };
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            if waiting.is_none() {
                waiting = Some(self.queue()?);
            }
            self.freed.notified().await;
        }
    }

    /// A connection, or a stream of one, is there to be taken.
    pub fn free(&self) {
        if self.is_crowded() {
            self.freed.notify_one();
        }
    }

    fn open(self: &Rc<Self>) -> Option<Open> {
        let (rules, open) = (self.rules(), self.open.get());
        if open >= rules.per_endpoint.unwrap_or(self.usual.get()) {
            return None;
        }
        let permit = match rules.breaker.take(What::Connections) {
            Ok(permit) => permit,
            Err(Full) if open == 0 => rules.breaker.take_anyway(What::Connections),
            Err(Full) => return None,
        };
        self.open.set(open + 1);
        Some(Open { gate: self.clone(), born_us: clock::recent_us(), served: Cell::new(0), _permit: permit })
    }

    fn queue(&self) -> Result<Waiting<'_>, Fault> {
        if self.waiting.get() >= MAX_WAITING {
            return Err(overflow(Full));
        }
        self.waiting.set(self.waiting.get() + 1);
        Ok(Waiting(self))
    }
}

fn overflow(_: Full) -> Fault {
    Fault::upstream(Kind::Overflow)
}

struct Waiting<'a>(&'a Gate);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl Open {
    /// Another request is on it.
    pub fn serve(&self) {
        self.served.set(self.served.get().saturating_add(1));
    }

    pub fn is_fresh(&self) -> bool {
        self.served.get() <= 1
    }

    /// Is it to be closed now that its request has ended?
    pub fn is_spent(&self) -> bool {
        self.gate.rules().is_spent(self.served.get(), self.born_us, clock::recent_us())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gate.open.set(self.gate.open.get() - 1);
        self.gate.free();
    }
}
