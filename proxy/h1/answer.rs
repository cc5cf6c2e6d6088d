//! The way to an answer's head: attempt after attempt, as [`Tries`] has it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::task::ready;

use http::header::DATE;
use http::header::SET_COOKIE;
use tokio::io::AsyncWrite;

use crate::buffer::Buffer;
use crate::clock;
use crate::edit::Answered;
use crate::edit::Fields as _;
use crate::edit::InForce;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::h1::client::Client;
use crate::h1::field;
use crate::h1::lines::Lines;
use crate::h1::question::Question;
use crate::h1::response;
use crate::h1::response::Additions;
use crate::h1::response::ResponseHead;
use crate::interim;
use crate::lane::Lane;
use crate::message::growing::Growing;
use crate::retry::Ended;
use crate::retry::Next;
use crate::retry::Signs;
use crate::rewrite;
use crate::upstream::Link;
use crate::upstream::Links;
use crate::wire::Wire;

/// An upstream's head may be this long.
pub const MAX_HEAD: usize = 256 * 1024;

/// An upstream's head, passed on into `out`, and its connection.
pub struct Answer {
    pub head: ResponseHead,
    /// How old the request was when it came.
    pub age_us: u64,
    pub out: Vec<u8>,
    pub link: Link,
    pub links: Rc<Links>,
    pub input: Buffer,
    /// What its fields say.
    pub signs: Signs,
}

impl Client<'_> {
    /// The answer that the client is to get, after as many attempts as it takes.
    pub async fn answer(&mut self, question: &mut Question) -> Result<Answer, Fault> {
        loop {
            let mut answer = self.attempt(question).await;
            self.send_copy(question).await;
            let ended = match &answer {
                Ok(answer) => {
                    let ResponseHead { status, failed, resigns, .. } = answer.head;
                    question.tries.hear(&question.flight, status.as_u16(), failed, resigns);
                    Ended::Answered(answer.signs)
                }
                Err(fault) => Ended::Failed(*fault),
            };
            match question.tries.next(&question.flight, &ended, question.upload.is_whole()) {
                Next::Pass(_) => {
                    if let Ok(answer) = &mut answer {
                        question.tell_client(&mut answer.out);
                    }
                    return answer;
                }
                Next::Again { .. } | Next::Instead(_) => {}
            }
            if let Some(pair) = question.flight.pair.get().filter(|_| ended.was_taken()) {
                pair.original_is_retried();
            }
            // A connection that still waits for the request's end is of no more use.
            if let Ok(unwanted) = answer
                && question.upload.has_ended()
            {
                unwanted.reclaim(self.lane);
            }
            let flight = &question.flight;
            Box::pin(flight.within(self.unless_gone(flight.rest()))).await??;
        }
    }

    /// Asks one endpoint of the version whose turn it is.
    async fn attempt(&mut self, question: &mut Question) -> Result<Answer, Fault> {
        let Question { flight, tries, split, .. } = question;
        let backend = tries.begin(flight).ok_or(Fault::upstream(Kind::NoHealthyUpstream))?;
        let named = backend.links.asks_for_host().then(|| host_of(&question.head)).flatten();
        let links = named.map_or_else(|| backend.links.clone(), |host| backend.links.of(host));
        let kept = if tries.fresh { None } else { links.take(tries.is_idempotent())? };
        let link = match kept {
            Some(link) => link,
            None => {
                let timeout = flight.view.table.splits[*split].versions[tries.version].connect_timeout;
                let (fresh, repeatable) = (tries.fresh, tries.is_idempotent());
                // Boxed: a dial is large, and rare.
                let open = Box::pin(links.open(fresh, repeatable, timeout, self.peer.ends()));
                flight.within(self.unless_gone(open)).await???
            }
        };
        question.tell_upstream();
        self.converse(question, link, links).await
    }

    /// Sends the head and the body, and waits for the answer's head.
    async fn converse(
        &mut self,
        question: &mut Question,
        mut link: Link,
        links: Rc<Links>,
    ) -> Result<Answer, Fault> {
        let lane = self.lane;
        let reused = link.reused;
        // Before a word of the answer, a kept connection may just have been closed.
        let broken = |silent: bool| Fault::upstream(if reused && silent { Kind::Stale } else { Kind::Reset });
        if let Err(sent) =
            write(&question.flight, &mut link.wire, [&question.head, question.upload.kept()]).await?
        {
            return Err(if reused && sent == 0 { Fault::upstream(Kind::Unsent) } else { broken(true) });
        }
        self.send_copy(question).await;
        // What the request has left of its memory serves its answer.
        let mut input =
            if self.input.is_empty() { std::mem::take(&mut self.input) } else { Buffer::default() };
        let is_edited = question.is_edited();
        let mut growing = Growing::default();
        let (mut out, mut hints) = (lane.texts.take(), 0);
        loop {
            if !input.reserve(MAX_HEAD) {
                return Err(Fault::upstream(Kind::Garbage));
            }
            match self.listen(question, &mut link, &mut input).await? {
                Ok(0) | Err(_) => return Err(broken(input.is_empty())),
                Ok(_) => {}
            }
            while !input.is_empty() && growing.is_ripe(input.filled()) {
                let age_us = question.flight.age_us();
                let additions = Additions {
                    service_time_us: age_us,
                    // What edits may take off is not theirs to take.
                    set_cookies: if is_edited { &[] } else { &question.set_cookies },
                    close: question.close || self.connection.is_ending(),
                    date: clock::http_date,
                    server: self.manners.and_then(|manners| manners.server.as_ref()),
                };
                let Some(head) = response::relay(input.filled(), question.head_only, &additions, &mut out)?
                else {
                    break;
                };
                if head.status.is_informational() {
                    input.consume(head.length);
                    if hints < interim::MOST && !out.is_empty() {
                        hints += 1;
                        Box::pin(self.hint(&question.flight, &out)).await?;
                    }
                    out.clear();
                    growing = Growing::default();
                } else {
                    let signs = question.signs(head.status.as_u16(), &input.filled()[..head.length]);
                    input.consume(head.length);
                    if is_edited {
                        question.edit_answer(&head, &links, &mut out);
                    }
                    return Ok(Answer { head, age_us, out, link, links, input, signs });
                }
            }
        }
    }
}

impl Client<'_> {
    /// Waits for more of the head, while the body goes up.
    async fn listen(
        &mut self,
        question: &mut Question,
        link: &mut Link,
        input: &mut Buffer,
    ) -> Result<std::io::Result<usize>, Fault> {
        let (lane, Question { flight, upload, .. }) = (self.lane, question);
        let (wire, client) = (&mut link.wire, &mut self.wire);
        let (mut uploading, client_input) = (!upload.has_ended(), &mut self.input);
        poll_fn(|cx| {
            if uploading && let Poll::Ready(sent) = upload.poll(client, client_input, wire, flight, cx) {
                uploading = false;
                sent?;
            }
            if let Poll::Ready(filled) = input.poll_fill(wire, &lane.buffers, cx) {
                return Poll::Ready(Ok(filled));
            }
            match flight.overdue(cx.waker()) {
                Some(fault) => Poll::Ready(Err(fault)),
                None if !uploading && client_input.is_empty() && client.is_gone(cx) => {
                    Poll::Ready(Err(Fault::downstream(Kind::ClientGone)))
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Passes an interim answer on. A client whose socket has no room for it does
    /// without; what has begun must be ended.
    async fn hint(&mut self, flight: &Flight, head: &[u8]) -> Result<(), Fault> {
        let (mut left, flights) = (head, &flight.lane.flights);
        poll_fn(|cx| {
            while !left.is_empty() {
                match Pin::new(&mut self.wire).poll_write(cx, left) {
                    Poll::Ready(Ok(count @ 1..)) => left = &left[count..],
                    Poll::Ready(_) => return Poll::Ready(Err(Fault::downstream(Kind::ClientGone))),
                    Poll::Pending if left.len() == head.len() && !self.wire.is_tls() => break,
                    Poll::Pending => {
                        flights.hand_over(flight.key);
                        return flight
                            .overdue(cx.waker())
                            .map_or(Poll::Pending, |fault| Poll::Ready(Err(fault)));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        flights.take_back(flight.key);
        Ok(())
    }
}

impl Question {
    fn edits(&self) -> (InForce<'_>, &str) {
        let table = &self.flight.view.table;
        let version = &table.splits[self.split].versions[self.tries.version];
        let route = table.route(self.tries.route).edits.as_deref();
        (InForce { version: version.edits.as_deref(), route }, &version.label)
    }

    fn is_edited(&self) -> bool {
        !self.edits().0.is_none()
    }

    /// The edits of the route and of the version that has answered.
    fn edit_answer(&self, head: &ResponseHead, links: &Links, out: &mut Vec<u8>) {
        let (edits, version) = self.edits();
        let status = head.status.as_u16();
        let upstream = Some(links.location() as &dyn std::fmt::Display);
        let mut lines = Lines(out);
        edits.edit_answer(&mut lines, &self.kept, &Answered { status, version, upstream });
        // As on every other way: these are ours, and every answer has a date.
        for cookie in &self.set_cookies {
            lines.append(&SET_COOKIE, cookie.as_bytes());
        }
        if lines.first(&DATE).is_none() {
            lines.append(&DATE, clock::http_date().as_bytes());
        }
    }

    /// What the head of an answer means for another attempt. Its fields are read
    /// once more only where the policy wants to know them.
    fn signs(&self, status: u16, head: &[u8]) -> Signs {
        let view = &self.flight.view;
        if !self.tries.looks_into(view, status) {
            return Signs::of_status(status);
        }
        let signs = response::with_fields(head, |fields| self.tries.signs(view, status, fields));
        signs.unwrap_or(Signs::of_status(status))
    }

    /// Puts into the head what the upstream is to know of this attempt.
    fn tell_upstream(&mut self) {
        let Some(told) = &mut self.told else { return };
        let mut lines = Vec::new();
        let mut digits = itoa::Buffer::new();
        if self.tell.attempts_up {
            let count = digits.format(self.tries.count).as_bytes();
            field::push(&mut lines, rewrite::ATTEMPT_COUNT.as_str(), count);
        }
        if let Some(left_us) = self.flight.time_left_us().filter(|_| self.tell.time_left) {
            let left_ms = digits.format(left_us / 1000).as_bytes();
            field::push(&mut lines, rewrite::EXPECTED_TIME.as_str(), left_ms);
        }
        let length = lines.len();
        self.head.splice(told.clone(), lines);
        told.end = told.start + length;
    }

    /// The same for the client, into the head of the answer.
    fn tell_client(&self, out: &mut Vec<u8>) {
        if self.tell.attempts_down {
            out.truncate(out.len() - b"\r\n".len());
            let mut digits = itoa::Buffer::new();
            field::push(out, rewrite::ATTEMPT_COUNT.as_str(), digits.format(self.tries.count).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Writes all parts, or tells how many bytes went out before it broke.
async fn write(flight: &Flight, wire: &mut Wire, parts: [&[u8]; 2]) -> Result<Result<(), usize>, Fault> {
    let mut sent = 0;
    for part in parts {
        let mut left = part;
        let written = flight.within(poll_fn(|cx| {
            while !left.is_empty() {
                match ready!(Pin::new(&mut *wire).poll_write(cx, left)) {
                    Ok(count @ 1..) => {
                        left = &left[count..];
                        sent += count;
                    }
                    Ok(0) | Err(_) => return Poll::Ready(Err(())),
                }
            }
            Poll::Ready(Ok(()))
        }));
        if written.await?.is_err() {
            return Ok(Err(sent));
        }
    }
    Ok(Ok(()))
}

/// Whom a head as the upstream gets it is for, without the port.
pub fn host_of(head: &[u8]) -> Option<&str> {
    let mut lines = head.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(5)?;
        name.eq_ignore_ascii_case(b"host:").then_some(value)
    })?;
    let value = std::str::from_utf8(value).ok()?.trim();
    match value.rfind(':') {
        Some(colon) if !value.ends_with(']') => Some(&value[..colon]),
        _ => Some(value),
    }
}

impl Answer {
    /// Keeps the connection of an answer that nobody wants, if all of it is here.
    fn reclaim(mut self, lane: &Lane) {
        let count = self.head.framing.advance(self.input.filled()).unwrap_or(0);
        if self.head.keep && self.head.framing.is_done() && count == self.input.filled().len() {
            self.links.give_back(self.link);
        }
        self.input.release(&lane.buffers);
        lane.texts.give(self.out);
    }
}
