//! The load and both upstreams in one thread that never sleeps, so that a proxy never pays for
//! waking its neighbour and every proxy meets the same neighbour.
//! It counts at both ends: what the client got and what each version was asked.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::caller::Answer;
use crate::caller::Caller;
use crate::epoll::Batch;
use crate::epoll::Epoll;
use crate::origin::Connection;
use crate::origin::Served;

/// A run with more errors than this stops: its figure would mean nothing.
const MOST_ERRORS: u64 = 1_000;
/// Callers that leave after each answer come from so many loopback addresses in turn, so that
/// none runs out of ports.
const SOURCES: usize = 200;

/// What is asked, and what must come of it.
pub struct Job {
    /// The requests, sent in an order without pattern, each with its head and body.
    pub requests: Vec<Vec<u8>>,
    /// The body that each request has.
    pub upload: Vec<u8>,
    /// The body of every answer, and the whole of it as the upstreams send it.
    pub body: Vec<u8>,
    pub answer: Vec<u8>,
    /// A new connection for every request.
    pub churn: bool,
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

pub struct Duo {
    pub job: Job,
    epoll: Epoll,
    batch: Batch,
    slots: Vec<Slot>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    upstreams: [SocketAddr; 2],
    tally: Tally,
    /// Requests begun.
    begun: usize,
    /// Callers that have had their answer and were not told to go on.
    rested: Vec<usize>,
    /// Slots with bytes that the other end did not take.
    blocked: Vec<usize>,
}

enum Slot {
    Gone,
    Listener { listener: TcpListener, version: usize },
    Upstream(Connection),
    Caller(Caller),
}

/// Counts since the start; a window is the difference of two.
#[derive(Clone, Copy, Default)]
struct Tally {
    answered: u64,
    errors: u64,
    asked: [u64; 2],
}

/// One measured window.
pub struct Window<T> {
    pub answered: u64,
    pub errors: u64,
    /// Requests that each version was asked.
    pub asked: [u64; 2],
    pub wall: Duration,
    pub before: T,
    pub after: T,
}

pub struct Plan {
    pub target: SocketAddr,
    pub connections: usize,
    pub warm_up: Duration,
    pub length: Length,
    /// Answers still owed when the window closes may take this long; later ones are errors.
    pub drain: Duration,
}

#[derive(Clone, Copy)]
pub enum Length {
    Time(Duration),
    /// So many answers, and no longer than this.
    Answers(u64, Duration),
}

#[derive(PartialEq)]
enum Phase {
    WarmUp,
    Measure,
    Drain,
}

impl Duo {
    pub fn new(job: Job) -> Result<Duo> {
        let epoll = Epoll::new()?;
        let mut slots = Vec::new();
        let mut upstreams = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); 2];
        for (version, address) in upstreams.iter_mut().enumerate() {
            let listener = TcpListener::bind(*address)?;
            listener.set_nonblocking(true)?;
            *address = listener.local_addr()?;
            epoll.watch(&listener, slots.len())?;
            slots.push(Slot::Listener { listener, version });
        }
        Ok(Duo {
            job,
            epoll,
            batch: Batch::new(),
            slots,
            free: Vec::new(),
            scratch: vec![0; 256 * 1024],
            upstreams,
            tally: Tally::default(),
            begun: 0,
            rested: Vec::new(),
            blocked: Vec::new(),
        })
    }

    /// Where the primary and the canary listen.
    pub fn upstreams(&self) -> [SocketAddr; 2] {
        self.upstreams
    }

    /// Requests that each version was asked since the beginning.
    pub fn asked(&self) -> [u64; 2] {
        self.tally.asked
    }

    pub fn errors(&self) -> u64 {
        self.tally.errors
    }

    /// Loads the target; `probe` is asked as the window opens and as it closes.
    pub fn run<T>(&mut self, plan: &Plan, mut probe: impl FnMut() -> Result<T>) -> Result<Window<T>> {
        self.forget_callers();
        for _ in 0..plan.connections {
            self.call(plan.target)?;
        }
        let mut phase = Phase::WarmUp;
        let mut turn = Instant::now() + plan.warm_up;
        let mut opened = None;
        let mut closed = None;
        let errors_before = self.tally.errors;
        loop {
            self.turn(0, (phase != Phase::Drain).then_some(plan.target))?;
            if self.tally.errors - errors_before > MOST_ERRORS {
                bail!("more than {MOST_ERRORS} errors: not measurable");
            }
            let now = Instant::now();
            match phase {
                Phase::WarmUp if now >= turn => {
                    opened = Some((probe()?, self.tally, Instant::now()));
                    turn = Instant::now() + plan.length.most();
                    phase = Phase::Measure;
                }
                Phase::Measure if now >= turn || self.enough(plan.length, opened.as_ref().map(|o| o.1)) => {
                    closed = Some((probe()?, self.tally, now));
                    turn = Instant::now() + plan.drain;
                    phase = Phase::Drain;
                }
                Phase::Drain if now >= turn || self.waiting() == 0 => break,
                Phase::WarmUp | Phase::Measure | Phase::Drain => {}
            }
        }
        let stalled = self.waiting() as u64;
        self.forget_callers();
        let (before, first, start) = opened.context("the window opened before it closed")?;
        let (after, last, end) = closed.context("the window closed before the drain")?;
        Ok(Window {
            answered: last.answered - first.answered,
            errors: self.tally.errors - errors_before + stalled,
            asked: [last.asked[0] - first.asked[0], last.asked[1] - first.asked[1]],
            wall: end - start,
            before,
            after,
        })
    }

    /// Serves as the upstreams only, sleeping between requests, until told to stop.
    /// Returns what each version was asked meanwhile.
    pub fn serve_while(&mut self, mut go_on: impl FnMut() -> Result<bool>) -> Result<[u64; 2]> {
        let first = self.tally.asked;
        let mut look = Instant::now();
        loop {
            self.turn(5, None)?;
            if Instant::now() >= look {
                if !go_on()? {
                    break;
                }
                look = Instant::now() + Duration::from_millis(5);
            }
        }
        Ok([self.tally.asked[0] - first[0], self.tally.asked[1] - first[1]])
    }

    /// Whether one request through `target` comes back right within `patience`.
    pub fn reaches(&mut self, target: SocketAddr, patience: Duration) -> Result<bool> {
        let end = Instant::now() + patience;
        self.forget_callers();
        let (answered, errors) = (self.tally.answered, self.tally.errors);
        if self.call(target).is_err() {
            return Ok(false);
        }
        while Instant::now() < end && self.tally.answered == answered && self.tally.errors == errors {
            self.turn(1, None)?;
        }
        self.forget_callers();
        Ok(self.tally.answered > answered)
    }

    /// Opens so many connections; each asks once and then stays. `forget_callers` ends them.
    pub fn hold(&mut self, target: SocketAddr, connections: usize, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        let (answered, errors) = (self.tally.answered, self.tally.errors);
        let mut open = 0;
        while self.tally.answered - answered < connections as u64 {
            if open < connections && open as u64 - (self.tally.answered - answered) < 32 {
                self.call(target)?;
                open += 1;
            }
            self.turn(0, None)?;
            self.rested.clear();
            if self.tally.errors > errors || Instant::now() > end {
                bail!("of {connections} connections {} were answered", self.tally.answered - answered);
            }
        }
        Ok(())
    }

    fn enough(&self, length: Length, first: Option<Tally>) -> bool {
        match (length, first) {
            (Length::Answers(wanted, _), Some(first)) => self.tally.answered - first.answered >= wanted,
            _ => false,
        }
    }

    pub fn waiting(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Caller(caller) if caller.waiting)).count()
    }

    pub fn forget_callers(&mut self) {
        for token in 0..self.slots.len() {
            if matches!(self.slots[token], Slot::Caller(_)) {
                self.slots[token] = Slot::Gone;
            }
        }
        while matches!(self.slots.last(), Some(Slot::Gone)) {
            self.slots.pop();
        }
        self.free = (0..self.slots.len()).filter(|&token| matches!(self.slots[token], Slot::Gone)).collect();
        self.rested.clear();
        self.blocked.clear();
        let blocked = |slot: &Slot| matches!(slot, Slot::Upstream(connection) if connection.blocked());
        self.blocked.extend((0..self.slots.len()).filter(|&token| blocked(&self.slots[token])));
    }

    /// Opens a connection and sends the next request on it.
    pub fn call(&mut self, target: SocketAddr) -> Result<()> {
        let from = self.job.churn.then(|| Ipv4Addr::new(127, 0, 0, 2 + (self.begun % SOURCES) as u8));
        let caller = Caller::connect(target, from, self.job.tls.as_ref())
            .with_context(|| format!("cannot connect to {target}"))?;
        let token = self.place();
        self.epoll.watch(caller.stream(), token)?;
        self.slots[token] = Slot::Caller(caller);
        if !self.ask(token) {
            bail!("{target} takes no request");
        }
        Ok(())
    }

    /// A caller that has had its answer, if any.
    pub fn rested(&mut self) -> Option<usize> {
        self.rested.pop()
    }

    /// Sends the next request on this caller's connection. False: it is lost.
    pub fn ask(&mut self, token: usize) -> bool {
        let Slot::Caller(caller) = &mut self.slots[token] else { return false };
        let request = (mixed(self.begun as u64) % self.job.requests.len() as u64) as usize;
        self.begun += 1;
        let sent = caller.send(request, &self.job.requests).is_ok();
        if caller.blocked(&self.job.requests) {
            self.blocked.push(token);
        }
        sent
    }

    fn place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Gone);
            self.slots.len() - 1
        })
    }

    /// One batch of events. With `again`, an answered caller asks at once and a lost one is replaced.
    pub fn turn(&mut self, timeout_ms: i32, again: Option<SocketAddr>) -> Result<()> {
        self.push_blocked();
        let timeout_ms = if self.blocked.is_empty() { timeout_ms } else { 0 };
        let ready = self.epoll.wait(&mut self.batch, timeout_ms)?;
        for index in 0..ready {
            let token = self.batch.token(index);
            match &mut self.slots[token] {
                Slot::Gone => {}
                Slot::Listener { .. } => self.accept(token)?,
                Slot::Upstream(connection) => match connection.serve(&mut self.scratch, &self.job) {
                    Served::Requests(count) => {
                        self.tally.asked[connection.version] += count;
                        if connection.blocked() && !self.blocked.contains(&token) {
                            self.blocked.push(token);
                        }
                    }
                    Served::Closed => self.vacate(token),
                },
                Slot::Caller(_) => self.hear(token, again)?,
            }
        }
        Ok(())
    }

    fn hear(&mut self, token: usize, again: Option<SocketAddr>) -> Result<()> {
        let Slot::Caller(caller) = &mut self.slots[token] else { return Ok(()) };
        let waited = caller.waiting;
        match caller.receive(&mut self.scratch, &self.job.requests, &self.job.body) {
            Answer::Partial => {}
            Answer::Good => {
                self.tally.answered += 1;
                match again {
                    None => self.rested.push(token),
                    Some(target) if self.job.churn => {
                        self.vacate(token);
                        self.call(target)?;
                    }
                    Some(target) => {
                        if !self.ask(token) {
                            self.lose(token, true, Some(target))?;
                        }
                    }
                }
            }
            Answer::Bad => self.lose(token, waited, again)?,
        }
        Ok(())
    }

    /// A connection that ends while nothing is owed on it fails nobody.
    fn lose(&mut self, token: usize, owed: bool, again: Option<SocketAddr>) -> Result<()> {
        self.tally.errors += u64::from(owed);
        self.vacate(token);
        if let Some(target) = again {
            self.call(target)?;
        }
        Ok(())
    }

    fn vacate(&mut self, token: usize) {
        self.slots[token] = Slot::Gone;
        self.free.push(token);
        self.blocked.retain(|&other| other != token);
    }

    /// Those whose other end took no more are tried again at each turn: large bodies only.
    fn push_blocked(&mut self) {
        let mut index = 0;
        while index < self.blocked.len() {
            let token = self.blocked[index];
            let done = match &mut self.slots[token] {
                Slot::Upstream(connection) => {
                    connection.push(&self.job.answer).is_err() || !connection.blocked()
                }
                Slot::Caller(caller) => {
                    caller.push(&self.job.requests).is_err() || !caller.blocked(&self.job.requests)
                }
                Slot::Gone | Slot::Listener { .. } => true,
            };
            if done {
                self.blocked.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    fn accept(&mut self, token: usize) -> Result<()> {
        let Slot::Listener { listener, version } = &self.slots[token] else { return Ok(()) };
        let Ok((stream, _)) = listener.accept() else { return Ok(()) };
        let connection = Connection::new(stream, *version)?;
        let token = self.place();
        self.epoll.watch(connection.stream(), token)?;
        self.slots[token] = Slot::Upstream(connection);
        Ok(())
    }
}

/// Numbers in a row made to look like chance (SplitMix64): were the requests sent in turn, some would
/// always come together, and a user's latency would be that of his neighbours.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl Length {
    fn most(self) -> Duration {
        match self {
            Length::Time(time) | Length::Answers(_, time) => time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_proxy_both_ends_count_the_same() {
        let mut duo = Duo::new(crate::jobs::plain()).expect("loopback is there");
        let plan = Plan {
            target: duo.upstreams()[1],
            connections: 4,
            warm_up: Duration::from_millis(5),
            length: Length::Answers(200, Duration::from_secs(10)),
            drain: Duration::from_secs(10),
        };
        let window = duo.run(&plan, || Ok(())).expect("the origin answers");
        assert_eq!(window.errors, 0);
        assert!(window.answered >= 200);
        assert_eq!(window.asked[0], 0);
        assert!(window.asked[1].abs_diff(window.answered) <= 4, "at most one in flight a connection");
    }
}
