//! Drives one client connection as long as its requests are plain.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Method;
use socket2::SockRef;
use tokio::io::{AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::buffer::Buffer;
use crate::clock;
use crate::connections::Connection;
use crate::connections::Ending;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::h1::converse::Download;
use crate::h1::converse::Upload;
use crate::h1::field;
use crate::h1::field::MAX_FIELDS;
use crate::h1::framing::Framing;
use crate::h1::request;
use crate::h1::request::Unfit;
use crate::h1::response;
use crate::h1::response::Additions;
use crate::h1::response::ResponseHead;
use crate::head::Head;
use crate::lane::Lane;
use crate::model::Limits;
use crate::model::Role;
use crate::outcome::Outcome;
use crate::outcome::Verdict;
use crate::retry;
use crate::rewrite;
use crate::rewrite::Peer;
use crate::split;
use crate::table::Action;
use crate::upstream::Link;
use crate::upstream::Links;

/// An upstream's head may be this long.
const MAX_HEAD: usize = 256 * 1024;
/// Endpoints tried before a version counts as unreachable.
const MAX_TRIES: usize = 3;
/// How much and how long is read on from a client whose connection ends.
const LINGER_BYTES: usize = 256 * 1024;
const LINGER: Duration = Duration::from_secs(1);

pub enum Ended {
    Closed,
    /// Somebody else has to go on, from these bytes.
    Irregular(TcpStream, Vec<u8>),
}

/// A client's connection and what was read of it.
struct Client<'a> {
    lane: &'a Rc<Lane>,
    connection: &'a Rc<Connection>,
    peer: &'a Peer,
    stream: TcpStream,
    input: Buffer,
}

enum Turn {
    Again,
    Close,
    Irregular,
}

pub async fn relay(
    lane: &Rc<Lane>,
    connection: &Rc<Connection>,
    peer: &Peer,
    stream: TcpStream,
    limits: &Limits,
) -> Ended {
    let mut client = Client { lane, connection, peer, stream, input: Buffer::default() };
    let ended = loop {
        let Some(length) = client.next_head(limits).await else { break Turn::Close };
        let turn = match length {
            Ok(length) => client.turn(length, limits).await,
            Err(_) => Turn::Irregular,
        };
        match turn {
            Turn::Again => {}
            ended => break ended,
        }
    };
    match ended {
        Turn::Irregular => Ended::Irregular(client.stream, client.input.into_bytes()),
        _ => {
            client.input.release(&lane.buffers);
            Ended::Closed
        }
    }
}

/// A request that is on its way: all that is needed of it once its bytes are gone.
struct Question {
    flight: Flight,
    split: usize,
    version: usize,
    /// The head as the upstream gets it, with our fields.
    head: Vec<u8>,
    upload: Upload,
    head_only: bool,
    /// Sent again on a new connection if a kept one was closed under it.
    repeatable: bool,
    /// Sent again to the primary if the canary fails.
    shielded: bool,
    close: bool,
    set_cookie: Option<String>,
    timeout_us: u64,
}

/// An upstream's head, passed on into `out`, and its connection.
struct Answer {
    head: ResponseHead,
    out: Vec<u8>,
    link: Link,
    links: Rc<Links>,
    input: Buffer,
}

impl Client<'_> {
    /// The length of the next head; `None` when there is none to come.
    async fn next_head(&mut self, limits: &Limits) -> Option<Result<usize, Unfit>> {
        let (mut seen, most) = (0, limits.max_header_bytes);
        if !self.input.is_empty() {
            self.connection.heard();
        }
        loop {
            let filled = self.input.filled();
            match request::end_of_head(filled, seen) {
                Some(length) if length <= most => return Some(Ok(length)),
                Some(_) => return Some(Err(Unfit::Irregular)),
                None if request::has_bare_line_feed(filled, seen) => return Some(Err(Unfit::Irregular)),
                None => {}
            }
            seen = filled.len();
            if seen >= most || !self.input.reserve(most) {
                return Some(Err(Unfit::Irregular));
            }
            let (connection, stream) = (self.connection, &mut self.stream);
            let (input, buffers) = (&mut self.input, &self.lane.buffers);
            let filled = poll_fn(|cx| match connection.ending(cx) {
                Ending::Now => Poll::Ready(Ok(0)),
                // A request may lie unread in the socket: it came in time.
                Ending::Graceful => match input.poll_fill(stream, buffers, cx) {
                    Poll::Pending if input.is_empty() => Poll::Ready(Ok(0)),
                    polled => polled,
                },
                Ending::None => input.poll_fill(stream, buffers, cx),
            });
            match filled.await {
                Ok(0) | Err(_) => return None,
                Ok(_) => connection.heard(),
            }
        }
    }

    /// One request and its answer.
    async fn turn(&mut self, length: usize, limits: &Limits) -> Turn {
        let busy = self.connection.begin();
        let (mut question, taken) = match self.ask(length, limits) {
            Ok(asked) => asked,
            Err(Unfit::Irregular) => return Turn::Irregular,
            Err(Unfit::Ambiguous) => return self.refuse().await,
        };
        self.input.consume(taken);
        let mut answer = self.attempt(&mut question).await;
        if question.shielded && !question.upload_failed(&answer) {
            answer = self.shield(&mut question, answer).await;
        }
        let turn = match answer {
            Ok(answer) => self.relay(question, answer).await,
            Err(fault) if fault.kind == Kind::Timeout && self.has_left().await => {
                self.fail(question, Fault::downstream(Kind::ClientGone)).await
            }
            Err(fault) => self.fail(question, fault).await,
        };
        drop(busy);
        turn
    }

    /// Finds the route, tosses the coin and writes the head that goes up.
    /// Whether a request is irregular may not depend on the coin: it would be
    /// tossed once more.
    /// Answers also with how many bytes of the input are dealt with.
    fn ask(&self, length: usize, limits: &Limits) -> Result<(Question, usize), Unfit> {
        let mut memory = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let (bytes, rest) = self.input.filled().split_at(length);
        let request = request::parse(bytes, &mut memory)?;
        if request.fields.len() > limits.max_headers {
            return Err(Unfit::Irregular);
        }
        let lane = self.lane;
        let view = lane.view();
        let head = Head::of_list(request.method, request.target, request.host, request.fields);
        let route = view.table.find(&head).ok_or(Unfit::Irregular)?;
        let Action::Split(split) = route.action else { return Err(Unfit::Irregular) };
        let plan = &view.table.splits[split];
        let idempotent =
            Method::from_bytes(request.method.as_bytes()).is_ok_and(|method| retry::is_idempotent(&method));
        let has_body = !request.framing.is_done();
        if !view.splits[split].plain || (has_body && idempotent && plan.shield.is_some()) {
            return Err(Unfit::Irregular);
        }
        let toss = view.splits[split].toss();
        let choice = split::choose(&toss.generation, &plan.force, plan.sticky.as_ref(), &head, lane.random());
        let canary = plan.versions[choice.version].role == Role::Canary;
        let shielded = plan.shield.is_some() && canary && idempotent;
        let idle_us = route.idle_timeout_us;
        let timeout_us = route.request_timeout_us;
        let mut out = lane.texts.take();
        request.write(self.peer, || [lane.random(), lane.random()], &mut out);
        let flight = Flight::begin(lane, view.clone(), split, toss, &choice, idle_us);
        flight.set_timeout(flight.started_us, timeout_us);
        view.splits[split].budget.earn();
        let mut upload = Upload::new(request.framing);
        let taken = length + upload.ride(&mut out, rest);
        let question = Question {
            flight,
            split,
            version: choice.version,
            head: out,
            head_only: request.method == "HEAD",
            repeatable: idempotent && !has_body,
            upload,
            shielded,
            close: request.close,
            set_cookie: choice.set_cookie,
            timeout_us,
        };
        Ok((question, taken))
    }

    /// Asks the version the question names, on a new connection if a kept one
    /// turns out to be closed.
    async fn attempt(&mut self, question: &mut Question) -> Result<Answer, Fault> {
        let view = question.flight.view.clone();
        let plan = &view.table.splits[question.split].versions[question.version];
        let shard = plan.slot.shard(self.lane.index);
        let version = &view.splits[question.split].versions[question.version];
        let mut fault = Fault::upstream(Kind::NoHealthyUpstream);
        for tried in 0..version.endpoints().min(MAX_TRIES) {
            let Some(links) = version.next_links() else { break };
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
        if flight.within(link.stream.write_all(head)).await?.is_err() {
            return Err(Fault::upstream(Kind::Reset));
        }
        let mut input = Buffer::default();
        let mut out = lane.texts.take();
        loop {
            if !input.reserve(MAX_HEAD) {
                return Err(Fault::upstream(Kind::Garbage));
            }
            {
                let (mut from_link, mut to_link) = link.stream.split();
                let (mut from_client, _) = self.stream.split();
                let (mut uploading, client_input) = (!upload.has_ended(), &mut self.input);
                let filled = poll_fn(|cx| {
                    if uploading
                        && let Poll::Ready(sent) =
                            upload.poll(&mut from_client, client_input, &mut to_link, flight, cx)
                    {
                        uploading = false;
                        sent?;
                    }
                    if let Poll::Ready(filled) = input.poll_fill(&mut from_link, &lane.buffers, cx) {
                        return Poll::Ready(Ok(filled));
                    }
                    match flight.overdue(cx.waker()) {
                        Some(fault) => Poll::Ready(Err(fault)),
                        None if !uploading
                            && client_input.is_empty()
                            && is_gone(from_client.as_ref(), cx) =>
                        {
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
    async fn shield(
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

    /// Passes the answer on and counts it by how it ends.
    async fn relay(&mut self, mut question: Question, answer: Answer) -> Turn {
        let Answer { head, out, mut link, links, mut input } = answer;
        let (lane, flight) = (self.lane, &question.flight);
        flight.set_timeout(0, 0);
        let mut outcome = Outcome::of_status(head.status);
        if head.failed {
            outcome = outcome.failed();
        }
        let until_close = matches!(head.framing, Framing::UntilClose);
        let (mut download, count) = match Download::new(out, head.framing, &mut input) {
            Ok(begun) => begun,
            Err(fault) => return self.fail(question, fault).await,
        };
        if outcome.verdict == Verdict::Failure || download.framing.is_done() {
            flight.settle(outcome);
        }
        flight.shard().bytes_out.add(count as u64);
        let ended = {
            let (mut from_link, mut to_link) = link.stream.split();
            let (mut from_client, mut to_client) = self.stream.split();
            let (upload, client_input) = (&mut question.upload, &mut self.input);
            let (mut uploading, mut answered) = (!upload.has_ended(), false);
            poll_fn(|cx| {
                if uploading
                    && let Poll::Ready(sent) =
                        upload.poll(&mut from_client, client_input, &mut to_link, flight, cx)
                {
                    uploading = false;
                    if !answered {
                        sent?;
                    }
                }
                if !answered
                    && let Poll::Ready(ended) =
                        download.poll(&mut from_link, &mut input, &mut to_client, flight, cx)
                {
                    ended?;
                    answered = true;
                    flight.settle(outcome);
                }
                // An upstream that answers early may still want the whole request.
                if answered && (!uploading || !head.keep) {
                    return Poll::Ready(Ok(()));
                }
                match flight.overdue(cx.waker()) {
                    Some(_) if answered => Poll::Ready(Ok(())),
                    Some(fault) => Poll::Ready(Err(fault)),
                    None if !uploading && client_input.is_empty() && is_gone(from_client.as_ref(), cx) => {
                        Poll::Ready(Err(Fault::downstream(Kind::ClientGone)))
                    }
                    None => Poll::Pending,
                }
            })
            .await
        };
        flight.shard().bytes_in.add(question.upload.bytes);
        match ended {
            Ok(()) => flight.settle(outcome),
            Err(fault) if fault.at == At::Upstream => flight.settle(outcome.failed()),
            Err(_) => flight.settle(outcome.uncounted()),
        }
        if ended.is_err() && until_close {
            // Its end is told by the connection's; a break must not look like it.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
        let whole = ended.is_ok() && question.upload.has_ended();
        if ended.is_ok() && !whole {
            self.linger().await;
        }
        if whole && head.keep && input.is_empty() {
            links.give_back(link);
        }
        input.release(&lane.buffers);
        lane.texts.give(download.into_memory());
        lane.texts.give(question.head);
        if whole && !head.close_client { Turn::Again } else { Turn::Close }
    }

    /// Our own answer in place of one that did not come.
    async fn fail(&mut self, question: Question, fault: Fault) -> Turn {
        question.flight.shard().bytes_in.add(question.upload.bytes);
        question.flight.settle(Outcome::of_fault(fault));
        if fault.kind == Kind::ClientGone {
            return Turn::Close;
        }
        // What is left of the body stands between us and the next head.
        let unread = !question.upload.has_ended();
        let close = question.close || unread || self.connection.is_ending();
        let mut out = self.lane.texts.take();
        write_local(&mut out, fault, question.head_only, question.set_cookie.as_deref(), close);
        let sent = self.stream.write_all(&out).await;
        self.lane.texts.give(out);
        if sent.is_ok() && unread {
            self.linger().await;
        }
        if sent.is_ok() && !close { Turn::Again } else { Turn::Close }
    }

    /// The answer to a message that nobody should act on.
    async fn refuse(&mut self) -> Turn {
        self.lane.counts.unrouted.add(1);
        let mut out = self.lane.texts.take();
        write_local(&mut out, Fault::downstream(Kind::BadRequest), false, None, true);
        if self.stream.write_all(&out).await.is_ok() {
            self.linger().await;
        }
        Turn::Close
    }

    /// Reads on for a moment after the last answer: bytes that nobody reads
    /// would make the kernel reset the connection, answer and all.
    async fn linger(&mut self) {
        let Self { stream, input, lane, .. } = self;
        let discard = async {
            stream.shutdown().await?;
            let mut left = LINGER_BYTES;
            while left > 0 {
                input.release(&lane.buffers);
                match poll_fn(|cx| input.poll_fill(stream, &lane.buffers, cx)).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            std::io::Result::Ok(())
        };
        // Whatever comes of it, the connection ends here.
        let _ = tokio::time::timeout(LINGER, discard).await;
    }

    /// Has the client closed its side, whatever it sent before?
    async fn has_left(&self) -> bool {
        let mut ready = std::pin::pin!(self.stream.ready(Interest::READABLE));
        let polled = poll_fn(|cx| Poll::Ready(ready.as_mut().poll(cx))).await;
        matches!(polled, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// The future's output, or that the client has left meanwhile.
    async fn unless_gone<F: Future>(&self, future: F) -> Result<F::Output, Fault> {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if is_gone(&self.stream, cx) => {
                Poll::Ready(Err(Fault::downstream(Kind::ClientGone)))
            }
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

impl Question {
    fn upload_failed(&self, answer: &Result<Answer, Fault>) -> bool {
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

/// Has the client closed its side? More bytes are a next request and stay.
fn is_gone(stream: &TcpStream, cx: &mut Context<'_>) -> bool {
    let mut byte = [0];
    let peeked = stream.poll_peek(cx, &mut ReadBuf::new(&mut byte));
    matches!(peeked, Poll::Ready(Ok(0) | Err(_)))
}

fn write_local(out: &mut Vec<u8>, fault: Fault, head_only: bool, set_cookie: Option<&str>, close: bool) {
    let (status, cause) = (fault.status(), fault.kind.as_str());
    let reason = status.canonical_reason().unwrap_or("");
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    field::push(out, "content-length", itoa::Buffer::new().format(cause.len()).as_bytes());
    field::push(out, rewrite::CAUSE.as_str(), cause.as_bytes());
    field::push(out, "date", clock::http_date().as_bytes());
    if let Some(cookie) = set_cookie {
        field::push(out, "set-cookie", cookie.as_bytes());
    }
    if close {
        field::push(out, "connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only {
        out.extend_from_slice(cause.as_bytes());
    }
}
