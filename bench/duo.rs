//! The load and both upstreams in one thread that never sleeps, so that a proxy never pays for
//! waking its neighbour and every proxy meets the same neighbour.
//! It counts at both ends: what the client got and what each version was asked.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::caller::Answer;
use crate::caller::Caller;
use crate::epoll::Batch;
use crate::epoll::Epoll;
use crate::origin;
use crate::origin::Connection;
use crate::origin::Served;

/// A run with more errors than this stops: its figure would mean nothing.
const MOST_ERRORS: u64 = 1_000;

pub struct Duo {
    epoll: Epoll,
    batch: Batch,
    slots: Vec<Slot>,
    scratch: Vec<u8>,
    answer: Vec<u8>,
    body: Vec<u8>,
    upstreams: [SocketAddr; 2],
    tally: Tally,
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
    pub fn new() -> Result<Duo> {
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
            epoll,
            batch: Batch::new(),
            slots,
            scratch: vec![0; 64 * 1024],
            answer: origin::answer(),
            body: origin::body(),
            upstreams,
            tally: Tally::default(),
        })
    }

    /// Where the primary and the canary listen.
    pub fn upstreams(&self) -> [SocketAddr; 2] {
        self.upstreams
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

    fn enough(&self, length: Length, first: Option<Tally>) -> bool {
        match (length, first) {
            (Length::Answers(wanted, _), Some(first)) => self.tally.answered - first.answered >= wanted,
            _ => false,
        }
    }

    fn waiting(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Caller(caller) if caller.waiting)).count()
    }

    fn forget_callers(&mut self) {
        for slot in &mut self.slots {
            if matches!(slot, Slot::Caller(_)) {
                *slot = Slot::Gone;
            }
        }
        while matches!(self.slots.last(), Some(Slot::Gone)) {
            self.slots.pop();
        }
    }

    fn call(&mut self, target: SocketAddr) -> Result<()> {
        let mut caller = Caller::connect(target).with_context(|| format!("cannot connect to {target}"))?;
        self.epoll.watch(caller.stream(), self.slots.len())?;
        caller.send()?;
        self.slots.push(Slot::Caller(caller));
        Ok(())
    }

    /// One batch of events. With `again`, an answered caller asks at once and a lost one is replaced.
    fn turn(&mut self, timeout_ms: i32, again: Option<SocketAddr>) -> Result<()> {
        let ready = self.epoll.wait(&mut self.batch, timeout_ms)?;
        for index in 0..ready {
            let token = self.batch.token(index);
            match &mut self.slots[token] {
                Slot::Gone => {}
                Slot::Listener { .. } => self.accept(token)?,
                Slot::Upstream(connection) => match connection.serve(&mut self.scratch, &self.answer) {
                    Served::Requests(count) => self.tally.asked[connection.version] += count,
                    Served::Closed => self.slots[token] = Slot::Gone,
                },
                Slot::Caller(caller) => {
                    let waited = caller.waiting;
                    let answer = caller.receive(&mut self.scratch, &self.body);
                    let lost = match (answer, again) {
                        (Answer::Partial, _) => false,
                        (Answer::Good, None) => {
                            self.tally.answered += 1;
                            false
                        }
                        (Answer::Good, Some(_)) => {
                            self.tally.answered += 1;
                            caller.send().is_err()
                        }
                        (Answer::Bad, _) => true,
                    };
                    if lost {
                        // A connection that ends while nothing is owed on it fails nobody.
                        self.tally.errors += u64::from(waited);
                        self.slots[token] = Slot::Gone;
                        if let Some(target) = again {
                            self.call(target)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self, token: usize) -> Result<()> {
        let Slot::Listener { listener, version } = &self.slots[token] else { return Ok(()) };
        let Ok((stream, _)) = listener.accept() else { return Ok(()) };
        let connection = Connection::new(stream, *version)?;
        self.epoll.watch(connection.stream(), self.slots.len())?;
        self.slots.push(Slot::Upstream(connection));
        Ok(())
    }
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
        let mut duo = Duo::new().expect("loopback is there");
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
