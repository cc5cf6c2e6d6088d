//! The way to an answer's head: a version is asked, again where that is safe,
//! and the primary in the place of a canary that failed.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::AsyncWriteExt;

use crate::attempt::MAX_TRIES;
use crate::buffer::Buffer;
use crate::clock;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::h1::client::Client;
use crate::h1::question::Question;
use crate::h1::response;
use crate::h1::response::Additions;
use crate::h1::response::ResponseHead;
use crate::lane::Lane;
use crate::outcome::Outcome;
use crate::upstream::Link;
use crate::upstream::Links;
use crate::upstream::Wish;

/// An upstream's head may be this long.
const MAX_HEAD: usize = 256 * 1024;

/// An upstream's head, passed on into `out`, and its connection.
pub struct Answer {
    pub head: ResponseHead,
    pub out: Vec<u8>,
    pub link: Link,
    pub links: Rc<Links>,
    pub input: Buffer,
}

impl Client<'_> {
    /// Asks the version the question names, on a new connection if a kept one
    /// turns out to be closed.
    pub async fn attempt(&mut self, question: &mut Question) -> Result<Answer, Fault> {
        let (view, lane) = (question.flight.view.clone(), self.lane);
        let plan = &view.table.splits[question.split].versions[question.version];
        let shard = plan.slot.shard(self.lane.index);
        let version = &view.splits[question.split].versions[question.version];
        let wish = Wish { hash: None, random: &|| lane.random() };
        let mut fault = Fault::upstream(Kind::NoHealthyUpstream);
        for tried in 0..version.picker.len().min(MAX_TRIES) {
            let Some(backend) = version.picker.pick(&wish, tried as u32) else { break };
            let links = &backend.links;
            if tried > 0 {
                shard.retries.add(1);
            }
            let link = match links.take() {
                Some(link) => link,
                None => {
                    let dial = links.dial(plan.connect_timeout);
                    match question.flight.within(self.unless_gone(dial)).await?? {
                        Ok(link) => link,
                        Err(failed) => {
                            fault = failed;
                            continue;
                        }
                    }
                }
            };
            let reused = link.reused;
            return match self.converse(question, link, links).await {
                // Closed just as it was used again, before it said anything.
                Err(failed) if reused && question.repeatable && failed.kind == Kind::Reset => {
                    shard.retries.add(1);
                    let link = question.flight.within(links.dial(plan.connect_timeout)).await??;
                    self.converse(question, link, links).await
                }
                answered => answered,
            };
        }
        Err(fault)
    }

    /// Sends the head and the body, and waits for the answer's head.
    async fn converse(
        &mut self,
        question: &mut Question,
        mut link: Link,
        links: &Rc<Links>,
    ) -> Result<Answer, Fault> {
        let lane = self.lane;
        let Question { flight, head, upload, .. } = question;
        if flight.within(link.wire.write_all(head)).await?.is_err() {
            return Err(Fault::upstream(Kind::Reset));
        }
        let mut input = Buffer::default();
        let mut out = lane.texts.take();
        loop {
            if !input.reserve(MAX_HEAD) {
                return Err(Fault::upstream(Kind::Garbage));
            }
            {
                let (wire, client) = (&mut link.wire, &mut self.wire);
                let (mut uploading, client_input) = (!upload.has_ended(), &mut self.input);
                let filled = poll_fn(|cx| {
                    if uploading
                        && let Poll::Ready(sent) = upload.poll(client, client_input, wire, flight, cx)
                    {
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
                });
                match filled.await? {
                    Ok(0) | Err(_) => return Err(Fault::upstream(Kind::Reset)),
                    Ok(_) => {}
                }
            }
            while !input.is_empty() {
                let additions = Additions {
                    service_time_us: flight.age_us(),
                    set_cookie: question.set_cookie.as_deref(),
                    close: question.close || self.connection.is_ending(),
                    date: clock::http_date,
                };
                let Some(head) = response::relay(input.filled(), question.head_only, &additions, &mut out)?
                else {
                    break;
                };
                input.consume(head.length);
                if !head.status.is_informational() {
                    return Ok(Answer { head, out, link, links: links.clone(), input });
                }
            }
        }
    }

    /// The primary's answer where the canary has failed; the failure counts.
    pub async fn shield(
        &mut self,
        question: &mut Question,
        answer: Result<Answer, Fault>,
    ) -> Result<Answer, Fault> {
        let outcome = match &answer {
            Err(fault) if fault.at == At::Upstream => Outcome::of_fault(*fault),
            Ok(answer) if answer.head.status.is_server_error() => Outcome::of_status(answer.head.status),
            _ => return answer,
        };
        let view = question.flight.view.clone();
        let split = question.split;
        if !view.splits[split].budget.spend() {
            return answer;
        }
        question.flight.settle(outcome);
        question.flight.shard().shielded.add(1);
        if let Ok(failed) = answer {
            failed.reclaim(self.lane);
        }
        // As much time as any other request of the primary gets: the canary's
        // was not cut short for it, so both are judged by one measure.
        question.flight.set_timeout(clock::now_us(), question.timeout_us);
        question.version = view.table.splits[split].primary;
        view.table.splits[split].versions[question.version].slot.shard(self.lane.index).retries.add(1);
        self.attempt(question).await
    }
}

impl Question {
    pub fn upload_failed(&self, answer: &Result<Answer, Fault>) -> bool {
        matches!(answer, Err(fault) if fault.at != At::Upstream) || !self.upload.has_ended()
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
