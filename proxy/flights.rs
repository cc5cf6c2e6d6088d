//! The requests under way on one worker: how old each is, when it must end, and
//! which coin it belongs to.
//!
//! One sweep over this list every few milliseconds replaces all timers of a
//! request: deadlines, silence, and the ages at which a slow request becomes
//! evidence before it ends. An idle worker does not sweep.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;

use crate::alarm::Alarm;
use crate::clock;
use crate::fault::Kind;
use crate::model::Role;
use crate::outcome::Verdict;
use crate::split::Arm;
use crate::split::Generation;
use crate::split::SplitCell;

/// How exact a timeout or a slow mark is.
const SWEEP: Duration = Duration::from_millis(10);

pub struct Flights {
    worker: usize,
    slab: RefCell<Slab>,
    /// Told when the list stops being empty.
    begun: Notify,
    alarm: Arc<Alarm>,
    /// The time of the last sweep or begin: near enough to stamp progress.
    now_us: Cell<u64>,
}

#[derive(Default)]
struct Slab {
    entries: Vec<Entry>,
    free: Vec<u32>,
    live: usize,
    /// Given to the newest entry; never to two that are live together.
    serial: u32,
}

/// Names one request; outlives it safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    index: u32,
    serial: u32,
}

#[derive(Default)]
struct Entry {
    serial: u32,
    live: bool,
    started_us: u64,
    /// Zero for none.
    deadline_us: u64,
    idle_us: u64,
    progressed_us: u64,
    /// Since when we wait for the client, to send more or to take more; zero
    /// while we wait for the version.
    handed_us: u64,
    expired: Option<Kind>,
    waker: Option<Waker>,
    coin: Option<Coin>,
}

/// The toss that a request belongs to, until its evidence is in.
struct Coin {
    toss: Rc<Toss>,
    version: usize,
    forced: bool,
    slow: bool,
    revealed: bool,
}

/// A split's generation as this worker last saw it.
pub struct Toss {
    pub cell: Arc<SplitCell>,
    pub generation: Arc<Generation>,
}

impl Flights {
    pub fn new(worker: usize, alarm: Arc<Alarm>) -> Flights {
        let now_us = Cell::new(clock::now_us());
        Flights { worker, slab: RefCell::default(), begun: Notify::new(), alarm, now_us }
    }

    /// Enters a request and counts it as dispatched to its arm.
    pub fn begin(&self, toss: Rc<Toss>, version: usize, forced: bool, idle_us: u64) -> (Key, u64) {
        let now_us = clock::now_us();
        self.now_us.set(now_us);
        toss.generation.arm(self.worker, version, forced).dispatched.add(1);
        let coin = Coin { toss, version, forced, slow: false, revealed: false };
        let mut slab = self.slab.borrow_mut();
        let index = slab.vacancy();
        slab.live += 1;
        if slab.live == 1 {
            self.begun.notify_one();
        }
        slab.serial = slab.serial.wrapping_add(1);
        let serial = slab.serial;
        slab.entries[index as usize] = Entry {
            serial,
            live: true,
            started_us: now_us,
            idle_us,
            progressed_us: now_us,
            coin: Some(coin),
            ..Entry::default()
        };
        (Key { index, serial }, now_us)
    }

    /// The request must end by then; clears an earlier expiry. Zero for never.
    pub fn set_deadline(&self, key: Key, deadline_us: u64) {
        self.with(key, |entry| {
            entry.deadline_us = deadline_us;
            entry.expired = None;
            entry.progressed_us = self.now_us.get();
        });
    }

    pub fn progress(&self, key: Key) {
        self.with(key, |entry| entry.progressed_us = self.now_us.get());
    }

    /// The next move is the client's: its slowness is no fault of the version.
    pub fn hand_over(&self, key: Key) {
        self.with(key, |entry| {
            if entry.handed_us == 0 {
                entry.handed_us = self.now_us.get();
            }
        });
    }

    /// The next move is the version's again; the client's time is given back.
    pub fn take_back(&self, key: Key) {
        self.with(key, |entry| {
            let since_us = std::mem::take(&mut entry.handed_us);
            if since_us != 0 {
                let now_us = self.now_us.get();
                entry.progressed_us = now_us;
                if entry.deadline_us != 0 {
                    entry.deadline_us += now_us.saturating_sub(since_us);
                }
            }
        });
    }

    /// Whether time is up; if not, `waker` is woken when it is.
    pub fn expired(&self, key: Key, waker: &Waker) -> Option<Kind> {
        self.with(key, |entry| {
            if entry.expired.is_none() && !entry.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                entry.waker = Some(waker.clone());
            }
            entry.expired
        })
        .flatten()
    }

    /// Puts the request's evidence where its coin fell; once only.
    pub fn settle(&self, key: Key, verdict: Verdict, age_us: u64) {
        let coin = self.with(key, |entry| entry.coin.take()).flatten();
        if let Some(mut coin) = coin {
            self.mark(&mut coin, age_us);
            self.record(&coin, verdict, age_us);
        }
    }

    /// Takes the request off the list. Evidence not settled by now is nobody's.
    pub fn end(&self, key: Key) {
        self.settle(key, Verdict::Uncounted, 0);
        let mut slab = self.slab.borrow_mut();
        if let Some(entry) = slab.entry(key) {
            entry.live = false;
            entry.waker = None;
            slab.free.push(key.index);
            slab.live -= 1;
        }
    }

    /// Runs as long as the worker lives.
    pub async fn sweep(self: Rc<Self>) {
        loop {
            if self.slab.borrow().live == 0 {
                self.begun.notified().await;
            }
            tokio::time::sleep(SWEEP).await;
            self.sweep_once(clock::now_us());
        }
    }

    fn sweep_once(&self, now_us: u64) {
        self.now_us.set(now_us);
        let mut slab = self.slab.borrow_mut();
        for entry in slab.entries.iter_mut().filter(|entry| entry.live) {
            let age_us = now_us.saturating_sub(entry.started_us);
            if let Some(coin) = &mut entry.coin {
                self.mark(coin, age_us);
            }
            if entry.expired.is_none() {
                entry.expired = entry.overdue(now_us);
                if entry.expired.is_some()
                    && let Some(waker) = entry.waker.take()
                {
                    waker.wake();
                }
            }
        }
        slab.trim();
    }

    /// Counts the ages that the request has passed since it was last looked at.
    fn mark(&self, coin: &mut Coin, age_us: u64) {
        if !coin.slow && coin.toss.cell.is_slow(age_us) {
            coin.slow = true;
            self.arm(coin).slow.add(1);
            self.ring(coin);
        }
        if !coin.revealed && coin.toss.cell.is_revealed(age_us) {
            coin.revealed = true;
            self.arm(coin).latency.record(age_us);
        }
    }

    fn record(&self, coin: &Coin, verdict: Verdict, age_us: u64) {
        let arm = self.arm(coin);
        match verdict {
            Verdict::Success => {
                arm.ok.add(1);
                if !coin.revealed {
                    arm.latency.record(age_us);
                }
            }
            Verdict::Failure => {
                arm.failed.add(1);
                if coin.revealed {
                    arm.failed_revealed.add(1);
                }
                self.ring(coin);
            }
            Verdict::Uncounted => arm.aborted.add(1),
        }
    }

    fn arm<'a>(&self, coin: &'a Coin) -> &'a Arm {
        coin.toss.generation.arm(self.worker, coin.version, coin.forced)
    }

    fn ring(&self, coin: &Coin) {
        if coin.toss.cell.versions[coin.version].1 != Role::Primary {
            self.alarm.ring();
        }
    }

    fn with<T>(&self, key: Key, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.slab.borrow_mut().entry(key).map(act)
    }
}

impl Slab {
    fn entry(&mut self, key: Key) -> Option<&mut Entry> {
        self.entries.get_mut(key.index as usize).filter(|entry| entry.live && entry.serial == key.serial)
    }

    fn vacancy(&mut self) -> u32 {
        while let Some(index) = self.free.pop() {
            if (index as usize) < self.entries.len() {
                return index;
            }
        }
        self.entries.push(Entry::default());
        self.entries.len() as u32 - 1
    }

    /// Forgets dead entries at the end, so that a burst does not make every later sweep long.
    fn trim(&mut self) {
        while self.entries.last().is_some_and(|entry| !entry.live) {
            self.entries.pop();
        }
    }
}

impl Entry {
    fn overdue(&self, now_us: u64) -> Option<Kind> {
        if self.handed_us != 0 {
            let silent = self.idle_us != 0 && now_us >= self.handed_us.saturating_add(self.idle_us);
            return silent.then_some(Kind::ClientGone);
        }
        if self.deadline_us != 0 && now_us >= self.deadline_us {
            return Some(Kind::Timeout);
        }
        let silent = self.idle_us != 0 && now_us >= self.progressed_us.saturating_add(self.idle_us);
        silent.then_some(Kind::IdleTimeout)
    }
}
