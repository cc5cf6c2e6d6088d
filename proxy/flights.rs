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
use crate::fault::Fault;
use crate::fault::Kind;
use crate::histogram::BUCKETS;
use crate::histogram::lower_us;
use crate::model::Role;
use crate::outcome::Verdict;
use crate::reading::Way;
use crate::split::Arm;
use crate::split::Choice;
use crate::split::Generation;
use crate::split::SplitCell;
use crate::timeouts::Timeouts;

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
    /// Zero for none, here and below.
    deadline_us: u64,
    idle_us: u64,
    /// From the moment on at which the request is whole.
    total_us: u64,
    /// When it is over whoever is slow, and what that is called.
    end_us: u64,
    end_kind: Option<Kind>,
    /// Of the present attempt.
    try_deadline_us: u64,
    try_idle_us: u64,
    /// Asleep until then.
    nap_us: u64,
    progressed_us: u64,
    /// Since when we wait for the client, to send more or to take more; zero
    /// while we wait for the version.
    handed_us: u64,
    /// When the whole request must be here; zero for whenever it comes.
    request_by_us: u64,
    expired: Option<Fault>,
    waker: Option<Waker>,
    coin: Option<Coin>,
}

/// The toss that a request belongs to, until its evidence is in.
struct Coin {
    toss: Rc<Toss>,
    version: usize,
    way: Way,
    unit: u64,
    load: bool,
    /// The request that counts for its user.
    first: bool,
    stratum: Option<u8>,
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
    pub fn begin(&self, toss: Rc<Toss>, choice: &Choice, timeouts: &Timeouts) -> (Key, u64) {
        let Choice { version, way, unit, fresh, stratum, load, .. } = *choice;
        let now_us = clock::now_us();
        self.now_us.set(now_us);
        toss.generation.arm(self.worker, version, way).dispatched.add(1);
        if let Some(stratum) = stratum {
            toss.generation.arm(self.worker, version, way).parts.part(stratum).dispatched.add(1);
        }
        toss.cell.moved(self.worker);
        let first = fresh && toss.cell.watches_first(unit);
        let coin = Coin { toss, version, way, unit, load, first, stratum, slow: false, revealed: false };
        let key = self.enter(Entry {
            started_us: now_us,
            deadline_us: after(now_us, timeouts.head_us),
            idle_us: timeouts.idle_us,
            total_us: timeouts.total_us,
            end_us: after(now_us, timeouts.life_us),
            end_kind: Some(timeouts.end_of_life()),
            progressed_us: now_us,
            coin: Some(coin),
            ..Entry::default()
        });
        (key, now_us)
    }

    /// Enters what is no user's request, and has so long to end.
    pub fn watch(&self, time_us: u64) -> (Key, u64) {
        let now_us = clock::now_us();
        let deadline_us = after(now_us, time_us);
        (self.enter(Entry { started_us: now_us, deadline_us, ..Entry::default() }), now_us)
    }

    fn enter(&self, entry: Entry) -> Key {
        let mut slab = self.slab.borrow_mut();
        let index = slab.vacancy();
        slab.live += 1;
        if slab.live == 1 {
            self.begun.notify_one();
        }
        slab.serial = slab.serial.wrapping_add(1);
        let serial = slab.serial;
        slab.entries[index as usize] = Entry { serial, live: true, ..entry };
        Key { index, serial }
    }

    /// The rest of the request has so long to come.
    pub fn set_request_timeout(&self, key: Key, timeout_us: u64) {
        self.with(key, |entry| entry.request_by_us = after(entry.started_us, timeout_us));
    }

    /// All of the request is here: from now on the answer has its whole time.
    pub fn request_ended(&self, key: Key) {
        self.with(key, |entry| {
            entry.request_by_us = 0;
            if entry.total_us == 0 {
                return;
            }
            let end_us = after(clock::now_us(), std::mem::take(&mut entry.total_us));
            if end_us != 0 && (entry.end_us == 0 || end_us < entry.end_us) {
                (entry.end_us, entry.end_kind) = (end_us, Some(Kind::Timeout));
            }
        });
    }

    /// The answer's head is here: from now on only silence is a fault, and the
    /// end of the whole.
    pub fn head_came(&self, key: Key) {
        self.with(key, |entry| {
            (entry.deadline_us, entry.try_deadline_us, entry.try_idle_us) = (0, 0, 0);
            entry.expired = None;
            entry.progressed_us = self.now_us.get();
        });
    }

    /// Another version is asked and gets the time that any gets. Only the life of
    /// the request goes on.
    pub fn restart(&self, key: Key, timeouts: &Timeouts) {
        let now_us = clock::now_us();
        self.with(key, |entry| {
            entry.deadline_us = after(now_us, timeouts.head_us);
            if entry.end_kind == Some(Kind::Timeout) && !timeouts.by_client {
                entry.end_us = after(entry.started_us, timeouts.life_us);
                entry.end_kind = Some(timeouts.end_of_life());
                let total_us = after(now_us, timeouts.total_us);
                if total_us != 0 && (entry.end_us == 0 || total_us < entry.end_us) {
                    (entry.end_us, entry.end_kind) = (total_us, Some(Kind::Timeout));
                }
            }
            entry.expired = None;
            entry.progressed_us = now_us;
        });
    }

    /// An attempt begins; what the one before it had used up is forgotten.
    pub fn begin_try(&self, key: Key, timeouts: &Timeouts) {
        let now_us = clock::now_us();
        self.with(key, |entry| {
            entry.try_deadline_us = after(now_us, timeouts.try_us);
            entry.try_idle_us = timeouts.try_idle_us;
            entry.progressed_us = now_us;
            entry.expired = entry.expired.filter(|fault| fault.kind != Kind::TryTimeout);
        });
    }

    /// Between two attempts: sleeps until then.
    pub fn nap(&self, key: Key, until_us: u64) {
        self.with(key, |entry| {
            (entry.try_deadline_us, entry.try_idle_us, entry.nap_us) = (0, 0, until_us);
            entry.expired = entry.expired.filter(|fault| fault.kind != Kind::TryTimeout);
        });
    }

    /// Still asleep? `waker` is woken at the end of it.
    pub fn is_napping(&self, key: Key, waker: &Waker) -> bool {
        let napping = self.with(key, |entry| {
            entry.listen(waker);
            entry.nap_us != 0
        });
        napping == Some(true)
    }

    /// Microseconds until the answer's head, or the answer, must be there.
    pub fn time_left_us(&self, key: Key, now_us: u64) -> Option<u64> {
        let ends = self.with(key, |entry| [entry.deadline_us, entry.end_us, entry.try_deadline_us])?;
        let end_us = ends.into_iter().filter(|end_us| *end_us != 0).min()?;
        Some(end_us.saturating_sub(now_us))
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
                for deadline_us in [&mut entry.deadline_us, &mut entry.try_deadline_us] {
                    if *deadline_us != 0 {
                        *deadline_us += now_us.saturating_sub(since_us);
                    }
                }
            }
        });
    }

    /// Whether time is up; if not, `waker` is woken when it is.
    pub fn expired(&self, key: Key, waker: &Waker) -> Option<Fault> {
        self.with(key, |entry| {
            if entry.expired.is_none() {
                entry.listen(waker);
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
            let rested = entry.nap_us != 0 && now_us >= entry.nap_us;
            if rested {
                entry.nap_us = 0;
            }
            let alive = entry.expired.is_none();
            if alive {
                entry.expired = entry.overdue(now_us);
            }
            if rested || (alive && entry.expired.is_some()) {
                entry.wake();
            }
        }
        slab.trim();
    }

    /// Counts the ages that the request has passed since it was last looked at.
    fn mark(&self, coin: &mut Coin, age_us: u64) {
        if !coin.slow && coin.toss.cell.is_slow(age_us) {
            coin.slow = true;
            self.arm(coin).slow.add(1);
            coin.toss.cell.moved(self.worker);
            self.ring(coin);
        }
        if !coin.revealed && coin.toss.cell.is_revealed(age_us) {
            coin.revealed = true;
            self.arm(coin).latency.record(age_us);
            if coin.first {
                self.arm(coin).first.record(age_us);
            }
            coin.toss.cell.moved(self.worker);
        }
    }

    fn record(&self, coin: &Coin, verdict: Verdict, age_us: u64) {
        let arm = self.arm(coin);
        match verdict {
            Verdict::Success => {
                arm.ok.add(1);
                if !coin.revealed {
                    arm.latency.record(age_us);
                    if coin.first {
                        arm.first.record(age_us);
                    }
                }
            }
            Verdict::Failure => {
                arm.failed.add(1);
                if coin.toss.cell.fails_first(coin.unit) {
                    arm.failed_units.add(1);
                }
                if coin.first {
                    arm.first_failed.add(1);
                }
                if coin.revealed {
                    arm.failed_revealed.add(1);
                } else if coin.first {
                    arm.first.record(lower_us(BUCKETS - 1));
                }
            }
            Verdict::Uncounted => arm.aborted.add(1),
        }
        if let Some(stratum) = coin.stratum {
            self.record_part(coin, stratum, verdict);
        }
        if coin.load && verdict != Verdict::Uncounted {
            arm.load.add(1);
            arm.load_failed.add(u64::from(verdict == Verdict::Failure));
        }
        coin.toss.cell.moved(self.worker);
        if verdict == Verdict::Failure {
            self.ring(coin);
        }
    }

    fn record_part(&self, coin: &Coin, stratum: u8, verdict: Verdict) {
        let part = self.arm(coin).parts.part(stratum);
        match verdict {
            Verdict::Success => part.ok.add(1),
            Verdict::Failure => {
                part.failed.add(1);
                part.failed_units.add(u64::from(coin.toss.cell.fails_first_in(stratum, coin.unit)));
            }
            Verdict::Uncounted => part.aborted.add(1),
        }
    }

    fn arm<'a>(&self, coin: &'a Coin) -> &'a Arm {
        coin.toss.generation.arm(self.worker, coin.version, coin.way)
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
    fn listen(&mut self, waker: &Waker) {
        if !self.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            self.waker = Some(waker.clone());
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn overdue(&self, now_us: u64) -> Option<Fault> {
        let passed = |end_us: u64| end_us != 0 && now_us >= end_us;
        let silent = |since_us: u64, most_us: u64| most_us != 0 && now_us >= since_us.saturating_add(most_us);
        if passed(self.request_by_us) {
            return Some(Fault::downstream(Kind::RequestTimeout));
        }
        if passed(self.end_us) {
            let kind = self.end_kind.unwrap_or(Kind::Timeout);
            // Nobody but the client is late when we wait for the client.
            let late = if self.handed_us == 0 { Fault::upstream } else { Fault::downstream };
            return Some(late(kind));
        }
        if self.handed_us != 0 {
            return silent(self.handed_us, self.idle_us).then(|| Fault::downstream(Kind::RequestTimeout));
        }
        let kind = if passed(self.deadline_us) {
            Kind::Timeout
        } else if passed(self.try_deadline_us) || silent(self.progressed_us, self.try_idle_us) {
            Kind::TryTimeout
        } else if silent(self.progressed_us, self.idle_us) {
            Kind::IdleTimeout
        } else {
            return None;
        };
        Some(Fault::upstream(kind))
    }
}

/// Zero time is for ever.
fn after(now_us: u64, time_us: u64) -> u64 {
    if time_us == 0 { 0 } else { now_us + time_us }
}
