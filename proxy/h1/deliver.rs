//! The way of an answer to the client, whether a version's or our own.

use std::future::poll_fn;
use std::task::Poll;

use http::StatusCode;
use http::header::DATE;
use http::header::HeaderValue;
use tokio::io::AsyncWriteExt;

use crate::buffer::Buffer;
use crate::clock;
use crate::edit::Answered;
use crate::edit::InForce;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::h1::answer::Answer;
use crate::h1::client::Client;
use crate::h1::converse::Download;
use crate::h1::converse::Upload;
use crate::h1::field;
use crate::h1::framing::Framing;
use crate::h1::question::Local;
use crate::h1::question::Question;
use crate::outcome::Outcome;
use crate::outcome::Verdict;
use crate::reply::Reply;
use crate::rewrite;
use crate::upstream::Link;

/// Whether the connection can carry another request.
pub enum Turn {
    Again,
    Close,
    Irregular,
}

/// An answer on its way, and where it comes from.
struct Passing<'a> {
    download: &'a mut Download,
    link: &'a mut Link,
    input: &'a mut Buffer,
    /// The upstream goes on reading after its answer.
    keep: bool,
}

impl Client<'_> {
    /// Passes the answer on and counts it by how it ends.
    pub async fn deliver(&mut self, mut question: Box<Question>, answer: Answer) -> Turn {
        let Answer { head, age_us, out, mut link, links, mut input, signs } = answer;
        let (lane, flight) = (self.lane, &question.flight);
        flight.lane.flights.head_came(flight.key);
        question.upload.forget();
        let mut outcome = Outcome::of_status(head.status);
        if head.failed {
            outcome = outcome.failed();
        }
        outcome = outcome.counted(signs.counts);
        let until_close = matches!(head.framing, Framing::UntilClose);
        let (mut download, count) = match Download::new(out, head.framing, &mut input) {
            Ok(begun) => begun,
            Err(fault) => return Box::pin(self.fail(question, fault)).await,
        };
        if outcome.verdict != Verdict::Success || download.framing.is_done() {
            flight.settle_at(outcome, age_us);
        }
        let shard = flight.shard();
        shard.bytes_out.add(count as u64);
        let passing =
            Passing { download: &mut download, link: &mut link, input: &mut input, keep: head.keep };
        let ended = self.pass(flight, &mut question.upload, passing, outcome).await;
        shard.bytes_in.add(question.upload.bytes);
        match ended {
            Ok(()) => flight.settle(outcome),
            Err(fault) if fault.at == At::Upstream => flight.settle(outcome.failed()),
            Err(_) => flight.settle(outcome.uncounted()),
        }
        if ended.is_err() && until_close {
            // Its end is told by the connection's; a break must not look like it.
            self.wire.break_off();
        }
        let whole = ended.is_ok() && question.upload.has_ended();
        if ended.is_ok() && !whole {
            Box::pin(self.linger()).await;
        }
        if whole && head.keep && input.is_empty() {
            links.give_back(link);
        }
        input.release(&lane.buffers);
        lane.texts.give(download.into_memory());
        lane.texts.give(question.head);
        if whole && !head.close_client { Turn::Again } else { Turn::Close }
    }

    /// Both directions until the client has the answer, and until the upstream
    /// has the request where it may still want it.
    async fn pass(
        &mut self,
        flight: &Flight,
        upload: &mut Upload,
        passing: Passing<'_>,
        outcome: Outcome,
    ) -> Result<(), Fault> {
        let Passing { download, link, input, keep } = passing;
        let (wire, client, client_input) = (&mut link.wire, &mut self.wire, &mut self.input);
        let (mut uploading, mut answered) = (!upload.has_ended(), false);
        poll_fn(|cx| {
            if uploading && let Poll::Ready(sent) = upload.poll(client, client_input, wire, flight, cx) {
                uploading = false;
                if !answered {
                    sent?;
                }
            }
            if !answered && let Poll::Ready(ended) = download.poll(wire, input, client, flight, cx) {
                ended?;
                answered = true;
                flight.settle(outcome);
            }
            if answered && (!uploading || !keep) {
                return Poll::Ready(Ok(()));
            }
            match flight.overdue(cx.waker()) {
                Some(_) if answered => Poll::Ready(Ok(())),
                Some(fault) => Poll::Ready(Err(fault)),
                None if !uploading && client_input.is_empty() && client.is_gone(cx) => {
                    Poll::Ready(Err(Fault::downstream(Kind::ClientGone)))
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Our own answer in place of one that did not come.
    pub async fn fail(&mut self, question: Box<Question>, fault: Fault) -> Turn {
        question.flight.shard().bytes_in.add(question.upload.bytes);
        question.flight.settle(Outcome::of_fault(fault));
        if fault.kind == Kind::ClientGone {
            return Turn::Close;
        }
        let reply = self.reply_of(&question, fault);
        // What is left of the body stands between us and the next head.
        let unread = !question.upload.has_ended();
        let close = question.close || unread || self.connection.is_ending();
        let mut out = self.lane.texts.take();
        write_local(&mut out, &reply, question.head_only, &question.set_cookies, close);
        let sent = self.wire.write_all(&out).await;
        self.lane.texts.give(out);
        if sent.is_ok() && unread {
            self.linger().await;
        }
        if sent.is_ok() && !close { Turn::Again } else { Turn::Close }
    }

    fn reply_of(&self, question: &Question, fault: Fault) -> Reply {
        let mut reply = Reply::of_fault(fault);
        let table = &question.flight.view.table;
        let version = &table.splits[question.split].versions[question.tries.version];
        let route = table.route(question.tries.route).edits.as_deref();
        let edits = InForce { version: version.edits.as_deref(), route };
        let status = reply.status.as_u16();
        let answered = Answered { status, version: &version.label, upstream: None };
        edits.edit_answer(&mut reply.headers, &question.kept, &answered);
        self.sign(&mut reply);
        if question.tell.attempts_down {
            reply.headers.insert(rewrite::ATTEMPT_COUNT, HeaderValue::from(question.tries.count));
        }
        reply.seal(question.grpc)
    }

    fn sign(&self, reply: &mut Reply) {
        if let Some(manners) = self.manners {
            manners.sign(&mut reply.headers);
        }
    }

    /// There is too much already for this request to be looked at.
    pub async fn shed(&mut self) -> Turn {
        self.lane.overload.seats(self.lane.index).refused_requests.add(1);
        let head_only = self.input.filled().starts_with(b"HEAD ");
        let mut reply = Reply::of_fault(Fault { at: At::Proxy, kind: Kind::Overloaded });
        self.sign(&mut reply);
        let mut out = self.lane.texts.take();
        write_local(&mut out, &reply, head_only, &[], true);
        let sent = self.wire.write_all(&out).await;
        self.lane.texts.give(out);
        if sent.is_ok() {
            self.linger().await;
        }
        Turn::Close
    }

    /// The answer to a request that no version is asked for.
    pub async fn answer_ourselves(&mut self, mut local: Local) -> Turn {
        self.lane.counts.unrouted.add(1);
        self.sign(&mut local.reply);
        let close = local.close || !local.whole || self.connection.is_ending();
        let mut out = self.lane.texts.take();
        write_local(&mut out, &local.reply, local.head_only, &[], close);
        let sent = self.wire.write_all(&out).await;
        self.lane.texts.give(out);
        if sent.is_ok() && !local.whole {
            self.linger().await;
        }
        if sent.is_ok() && !close { Turn::Again } else { Turn::Close }
    }

    /// The answer to a message that nobody should act on.
    pub async fn refuse(&mut self) -> Turn {
        self.lane.counts.unrouted.add(1);
        let mut out = self.lane.texts.take();
        let mut reply = Reply::of_fault(Fault::downstream(Kind::BadRequest)).seal(false);
        self.sign(&mut reply);
        write_local(&mut out, &reply, false, &[], true);
        if self.wire.write_all(&out).await.is_ok() {
            self.linger().await;
        }
        Turn::Close
    }
}

fn write_local(out: &mut Vec<u8>, reply: &Reply, head_only: bool, set_cookies: &[String], close: bool) {
    let Reply { status, headers, body, .. } = reply;
    let reason = status.canonical_reason().unwrap_or("");
    for part in ["HTTP/1.1 ", status.as_str(), " ", reason, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let bodyless = matches!(*status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if !bodyless {
        field::push(out, "content-length", itoa::Buffer::new().format(body.len()).as_bytes());
    }
    for (name, value) in headers {
        field::push(out, name.as_str(), value.as_bytes());
    }
    if !headers.contains_key(DATE) {
        field::push(out, "date", clock::http_date().as_bytes());
    }
    for cookie in set_cookies {
        field::push(out, "set-cookie", cookie.as_bytes());
    }
    if close {
        field::push(out, "connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !head_only && !bodyless {
        out.extend_from_slice(body);
    }
}
