//! A mirrored copy on the plain way: the bytes of the user's request, written on a
//! connection that is kept to the mirror's version, and an answer that is read off
//! and forgotten.
//!
//! The client's own task does both, in passing: it writes the copy when the user's
//! request has gone out, and looks for the answer when it has nothing better to do.
//! It never waits. What would need a wait (a dial, a socket without room, an answer
//! in pieces, or one that is not there when the next request is) goes on in a task
//! of its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::buffer::Buffer;
use crate::buffer::LARGE;
use crate::buffer::SMALL;
use crate::clock;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::flights::Key;
use crate::h1::answer::MAX_HEAD;
use crate::h1::answer::host_of;
use crate::h1::framing::Framing;
use crate::h1::response;
use crate::interim;
use crate::lane::Lane;
use crate::lane::View;
use crate::message::growing::Growing;
use crate::mirror;
use crate::outcome::Outcome;
use crate::preamble::Ends;
use crate::retry::MAX_TRIES;
use crate::table::RouteId;
use crate::table::VersionPlan;
use crate::tally::Shard;
use crate::upstream::Backend;
use crate::upstream::Busy;
use crate::upstream::Link;
use crate::upstream::Links;
use crate::upstream::Wish;

/// Reads that the client's task makes of an answer; a longer one goes alone.
const IN_PASSING: u32 = 2;

pub struct Copy {
    /// Whom it is for, and its place among the copies under way.
    plan: mirror::Copy,
    lane: Rc<Lane>,
    view: Rc<View>,
    split: usize,
    route: RouteId,
    /// All of it, head and body.
    bytes: Vec<u8>,
    sent: usize,
    head_only: bool,
    /// It may be sent again where it might have been taken.
    repeatable: bool,
    ends: Option<Ends>,
    /// Since when it is under way.
    began: Option<(Key, u64)>,
    tried: u32,
    carrier: Option<Carrier>,
    input: Buffer,
    growing: Growing,
    reads: u32,
    hints: usize,
    answer: Option<Answer>,
    settled: bool,
}

/// The connection that it is on.
struct Carrier {
    link: Link,
    links: Rc<Links>,
    _busy: Option<Busy>,
}

/// What is known of an answer whose head is here.
struct Answer {
    outcome: Outcome,
    framing: Framing,
    keep: bool,
}

/// What a copy is made of.
pub struct Draft {
    pub plan: mirror::Copy,
    pub view: Rc<View>,
    pub split: usize,
    pub route: RouteId,
    pub bytes: Vec<u8>,
    pub head_only: bool,
    pub repeatable: bool,
    pub ends: Option<Ends>,
}

impl Copy {
    pub fn new(lane: &Rc<Lane>, draft: Draft) -> Box<Copy> {
        let Draft { plan, view, split, route, bytes, head_only, repeatable, ends } = draft;
        Box::new(Copy {
            plan,
            lane: lane.clone(),
            view,
            split,
            route,
            bytes,
            sent: 0,
            head_only,
            repeatable,
            ends,
            began: None,
            tried: 0,
            carrier: None,
            input: Buffer::default(),
            growing: Growing::default(),
            reads: 0,
            hints: 0,
            answer: None,
            settled: false,
        })
    }

    /// The request that it is a copy of; that has at most one.
    pub fn pair_with(&self, flight: &Flight) {
        if let Some(pair) = &self.plan.pair {
            let _ = flight.pair.set(pair.clone());
        }
    }

    /// Sends it, if that takes no wait: answers with it where only its answer is
    /// missing then.
    pub fn set_out(mut self: Box<Self>, cx: &mut Context<'_>) -> Option<Box<Copy>> {
        self.begin();
        match self.board() {
            Ok(true) => {}
            Ok(false) => return self.go_alone(),
            Err(fault) => return self.settle(Err(fault)),
        }
        match self.poll_sent(cx) {
            Poll::Ready(Ok(())) => Some(self),
            Poll::Ready(Err(fault)) if !self.may_repeat(fault.kind) => self.settle(Err(fault)),
            // Whoever goes on finds out once more.
            Poll::Ready(Err(_)) => {
                self.leave();
                self.go_alone()
            }
            Poll::Pending => self.go_alone(),
        }
    }

    /// Looks for the answer: answers with the copy where that is still missing.
    pub fn look(mut self: Box<Self>, cx: &mut Context<'_>) -> Option<Box<Copy>> {
        match self.poll_answer(IN_PASSING, cx) {
            Poll::Ready(Err(fault)) if self.may_repeat(fault.kind) => {
                self.leave();
                self.go_alone()
            }
            Poll::Ready(ended) => self.settle(ended),
            Poll::Pending if self.reads > 0 => self.go_alone(),
            Poll::Pending => Some(self),
        }
    }

    /// Goes on in a task of its own. Always `None`, as of all who are seen no more.
    pub fn go_alone(self: Box<Self>) -> Option<Box<Copy>> {
        tokio::task::spawn_local(self.run());
        None
    }

    async fn run(mut self: Box<Self>) {
        let ended = loop {
            match self.exchange().await {
                Err(fault) if self.may_repeat(fault.kind) => self.leave(),
                ended => break ended,
            }
        };
        self.settle(ended);
    }

    /// From wherever it stands to the end of the answer.
    async fn exchange(&mut self) -> Result<(), Fault> {
        if self.carrier.is_none() {
            self.travel().await?;
        }
        poll_fn(|cx| {
            let sent = self.poll_sent(cx);
            self.in_time(sent, cx)
        })
        .await?;
        poll_fn(|cx| self.poll_answer(u32::MAX, cx)).await
    }

    fn begin(&mut self) {
        let timeout_us = clock::us(mirror::TIMEOUT);
        self.began = Some(self.lane.flights.watch(timeout_us));
        self.shard().begin();
    }

    fn version(&self) -> &VersionPlan {
        &self.view.table.splits[self.split].versions[self.plan.version]
    }

    fn shard(&self) -> &Shard {
        self.plan.shard(self.version(), &self.lane)
    }

    fn pick(&mut self) -> Option<Rc<Backend>> {
        let wish = Wish { hash: None, random: &|| self.lane.random() };
        let picker = &self.view.splits[self.split].versions[self.plan.version].picker;
        let backend = picker.pick(&wish, self.tried);
        self.tried += 1;
        backend
    }

    /// Takes a connection that is kept; false where there is none to be had at once.
    fn board(&mut self) -> Result<bool, Fault> {
        let tried = self.tried;
        let backend = self.pick().ok_or(Fault::upstream(Kind::NoHealthyUpstream))?;
        let links = backend.links.clone();
        let kept = if links.asks_for_host() { None } else { links.take(self.repeatable)? };
        let Some(link) = kept else {
            // Nothing was tried.
            self.tried = tried;
            return Ok(false);
        };
        self.carrier = Some(Carrier { link, links, _busy: backend.begin() });
        Ok(true)
    }

    /// The same with whatever waits it takes; after a failure a new connection.
    async fn travel(&mut self) -> Result<(), Fault> {
        let fresh = self.tried > 0;
        let backend = self.pick().ok_or(Fault::upstream(Kind::NoHealthyUpstream))?;
        let named = backend.links.asks_for_host().then(|| host_of(&self.bytes)).flatten();
        let links = named.map_or_else(|| backend.links.clone(), |host| backend.links.of(host));
        let _busy = backend.begin();
        let kept = if fresh { None } else { links.take(self.repeatable)? };
        let link = match kept {
            Some(link) => link,
            None => {
                let timeout = self.version().connect_timeout;
                let mut open = std::pin::pin!(links.open(fresh, self.repeatable, timeout, self.ends));
                poll_fn(|cx| {
                    let opened = open.as_mut().poll(cx);
                    self.in_time(opened, cx)
                })
                .await?
            }
        };
        self.carrier = Some(Carrier { link, links, _busy });
        Ok(())
    }

    /// The attempt has failed; what comes next begins anew.
    fn leave(&mut self) {
        self.carrier = None;
        self.sent = 0;
        self.growing = Growing::default();
        self.input.release(&self.lane.buffers);
    }

    /// Only where the answer has not begun.
    fn may_repeat(&self, kind: Kind) -> bool {
        self.tried < MAX_TRIES
            && match kind {
                Kind::ConnectFailure | Kind::ConnectTimeout | Kind::Handshake | Kind::Unsent => true,
                Kind::Stale => self.repeatable,
                _ => false,
            }
    }

    fn in_time<T>(&self, polled: Poll<Result<T, Fault>>, cx: &mut Context<'_>) -> Poll<Result<T, Fault>> {
        match (polled, self.began) {
            (Poll::Pending, Some((key, _))) => match self.lane.flights.expired(key, cx.waker()) {
                Some(fault) => Poll::Ready(Err(fault)),
                None => Poll::Pending,
            },
            (polled, _) => polled,
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(Carrier { link, .. }) = &mut self.carrier else {
            return Poll::Ready(Err(Fault::upstream(Kind::Reset)));
        };
        while self.sent < self.bytes.len() {
            match Pin::new(&mut link.wire).poll_write(cx, &self.bytes[self.sent..]) {
                Poll::Ready(Ok(count @ 1..)) => self.sent += count,
                Poll::Ready(_) if link.reused && self.sent == 0 => {
                    return Poll::Ready(Err(Fault::upstream(Kind::Unsent)));
                }
                Poll::Ready(_) => return Poll::Ready(Err(broken(link))),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads until the answer has ended, but no more often than this.
    fn poll_answer(&mut self, most: u32, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let reset = Fault::upstream(Kind::Reset);
        loop {
            if self.digest()? {
                return Poll::Ready(Ok(()));
            }
            if self.reads >= most {
                return Poll::Pending;
            }
            if !self.input.reserve(MAX_HEAD) {
                return Poll::Ready(Err(Fault::upstream(Kind::Garbage)));
            }
            let much = self.answer.as_ref().is_some_and(|answer| answer.framing.exceeds(SMALL));
            let room = if much { LARGE } else { SMALL };
            let silent = self.answer.is_none() && self.input.is_empty();
            let ends_here = self.ends_with_connection();
            let Some(Carrier { link, .. }) = &mut self.carrier else { return Poll::Ready(Err(reset)) };
            match self.input.poll_fill_room(room, &mut link.wire, &self.lane.buffers, cx) {
                Poll::Ready(Ok(1..)) => self.reads = self.reads.saturating_add(1),
                Poll::Ready(Ok(0)) if ends_here => return Poll::Ready(Ok(())),
                Poll::Ready(_) => return Poll::Ready(Err(if silent { broken(link) } else { reset })),
                Poll::Pending => return self.in_time(Poll::Pending, cx),
            }
        }
    }

    fn ends_with_connection(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| matches!(answer.framing, Framing::UntilClose))
    }

    /// Takes in what was read. True when the answer has ended.
    fn digest(&mut self) -> Result<bool, Fault> {
        while self.answer.is_none() && !self.input.is_empty() {
            let filled = self.input.filled();
            if !self.growing.is_ripe(filled) {
                return Ok(false);
            }
            let Some(head) = response::hear(filled, self.head_only)? else { return Ok(false) };
            if head.status.is_informational() {
                self.hints += 1;
                if self.hints > interim::MOST {
                    return Err(Fault::upstream(Kind::Garbage));
                }
            } else {
                let outcome = Outcome::of_status(head.status);
                let outcome = if head.failed { outcome.failed() } else { outcome };
                let counting = self.view.table.route(self.route).counting.as_deref();
                let counted = counting.and_then(|counting| {
                    let status = head.status.as_u16();
                    response::with_fields(&filled[..head.length], |fields| counting.of_head(status, fields))
                });
                let outcome = outcome.counted(counted.flatten());
                self.answer = Some(Answer { outcome, framing: head.framing, keep: head.keep });
            }
            self.input.consume(head.length);
            self.growing = Growing::default();
        }
        let Some(answer) = &mut self.answer else { return Ok(false) };
        let count = answer.framing.advance(self.input.filled()).map_err(Fault::upstream)?;
        let is_done = answer.framing.is_done();
        self.input.consume(count);
        self.shard().bytes_out.add(count as u64);
        Ok(is_done)
    }

    /// Counts it. Always `None`, as above.
    fn settle(mut self: Box<Self>, ended: Result<(), Fault>) -> Option<Box<Copy>> {
        let outcome = match (&ended, &self.answer) {
            (Ok(()), Some(answer)) => answer.outcome,
            (Ok(()), None) => Outcome::of_fault(Fault::upstream(Kind::Reset)),
            (Err(fault), _) => Outcome::of_fault(*fault),
        };
        let age_us = self.began.map_or(0, |(_, began_us)| clock::now_us().saturating_sub(began_us));
        self.shard().end(outcome, age_us);
        let is_late = matches!(ended, Err(Fault { kind: Kind::Timeout, .. }));
        self.plan.pair_off(outcome.verdict, is_late.then_some(age_us), self.answer.is_some());
        let keeps = ended.is_ok() && self.answer.as_ref().is_some_and(|answer| answer.keep);
        if keeps
            && self.input.is_empty()
            && let Some(Carrier { link, links, .. }) = self.carrier.take()
        {
            links.give_back(link);
        }
        self.settled = true;
        None
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Some((key, _)) = self.began {
            self.lane.flights.end(key);
            if !self.settled {
                // Broken off with the client's task: nobody's failure.
                let gone = Fault::downstream(Kind::ClientGone);
                self.shard().mirror_dropped.add(1);
                self.shard().end(Outcome::of_fault(gone), 0);
            }
        }
        self.input.release(&self.lane.buffers);
        self.lane.texts.give(std::mem::take(&mut self.bytes));
    }
}

/// Before a word of the answer, a kept connection may just have been closed.
fn broken(link: &Link) -> Fault {
    Fault::upstream(if link.reused { Kind::Stale } else { Kind::Reset })
}
