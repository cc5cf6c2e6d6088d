//! The life of one request, from its head to the body of its answer.

use std::rc::Rc;

use bytes::Bytes;
use http::header::HeaderValue;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::answer::AnswerBody;
use crate::answer::Expected;
use crate::attempt::Answer;
use crate::attempt::attempt;
use crate::body::RequestBody;
use crate::body::Upload;
use crate::clock;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::head::Head;
use crate::lane::Lane;
use crate::lane::View;
use crate::mirror;
use crate::model::Role;
use crate::outcome;
use crate::outcome::Outcome;
use crate::retry;
use crate::retry::Budget;
use crate::rewrite;
use crate::rewrite::Peer;
use crate::split;
use crate::split::Choice;
use crate::table::Action;
use crate::table::RoutePlan;
use crate::tunnel;
use crate::tunnel::Tunnel;
use crate::upgrade;
use crate::upgrade::Change;
use crate::upstream::Wish;

/// Of an unwanted answer no more than this is read.
const RECLAIMED: usize = 64 * 1024;

/// Answers one request. Never fails: what goes wrong becomes an answer.
pub async fn exchange(lane: Rc<Lane>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<AnswerBody> {
    let view = lane.view();
    let (mut parts, incoming) = request.into_parts();
    let change = match upgrade::read(&mut parts, || [lane.random(), lane.random()]) {
        Ok(change) => change,
        Err(fault) => return unrouted(&lane, fault),
    };
    let mut response = routed(&lane, &view, &peer, parts, incoming, change.as_ref()).await;
    if let Some(change) = &change
        && !matches!(response.body(), AnswerBody::Switched(_))
    {
        upgrade::decline(change, response.headers_mut());
    }
    response
}

async fn routed(
    lane: &Rc<Lane>,
    view: &Rc<View>,
    peer: &Peer,
    mut parts: Parts,
    incoming: Incoming,
    change: Option<&Change>,
) -> Response<AnswerBody> {
    let head = match Head::of(&parts) {
        Ok(head) => head,
        Err(fault) => return unrouted(lane, fault),
    };
    let Some(route) = view.table.find(&head) else {
        return unrouted(lane, Fault { at: At::Proxy, kind: Kind::NoRoute });
    };
    if change.is_some_and(|change| !change.is_allowed(&route.upgrades)) {
        return unrouted(lane, Fault::downstream(Kind::UpgradeRefused));
    }
    let split = match &route.action {
        Action::Split(split) => *split,
        Action::Direct { status, body } => {
            lane.counts.unrouted.add(1);
            return direct(*status, body.clone());
        }
    };
    let plan = &view.table.splits[split];
    let toss = view.splits[split].toss();
    let choice = split::choose(&toss.generation, &plan.force, plan.sticky.as_ref(), &head, lane.random());
    let flight = Flight::begin(lane, view.clone(), split, toss, &choice, route.idle_timeout_us);
    let mut response = match change {
        Some(change) if change.ends_here(&route.upgrades) => terminate(flight, split, &choice, route).await,
        change => {
            parts.extensions = change.cloned().map(carried).unwrap_or_default();
            let outgoing = Outgoing::new(&flight, route, split, &choice, parts, incoming, peer);
            run(flight, split, &choice, outgoing, route).await
        }
    };
    if let Some(cookie) = choice.set_cookie.as_deref().and_then(|cookie| HeaderValue::from_str(cookie).ok()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// What is known of a request beside its head, for whoever sends it.
fn carried(change: Change) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(change);
    extensions
}

/// Answers a CONNECT ourselves once an endpoint has taken the connection.
async fn terminate(flight: Flight, split: usize, choice: &Choice, route: &RoutePlan) -> Response<AnswerBody> {
    let version = &flight.view.splits[split].versions[choice.version];
    flight.set_timeout(flight.started_us, route.request_timeout_us);
    let wish = Wish { hash: None, random: &|| flight.lane.random() };
    let reached = flight.within(tunnel::reach(version, flight.plan(), &wish, flight.shard())).await;
    match reached.unwrap_or_else(Err) {
        Ok(wire) => {
            flight.settle(Outcome::of_status(StatusCode::OK));
            Response::new(AnswerBody::Switched(Tunnel::new(wire, flight)))
        }
        Err(fault) => {
            flight.settle(Outcome::of_fault(fault));
            local(fault)
        }
    }
}

/// A request ready to be sent, perhaps twice.
struct Outgoing {
    parts: Parts,
    upload: Option<Rc<Upload>>,
    /// The head once more, where the primary may have to step in.
    spare: Option<Parts>,
    /// The answer has no body, whatever its head says.
    head_only: bool,
    change: Option<Change>,
}

impl Outgoing {
    fn new(
        flight: &Flight,
        route: &RoutePlan,
        split: usize,
        choice: &Choice,
        mut parts: Parts,
        incoming: Incoming,
        peer: &Peer,
    ) -> Outgoing {
        let (lane, view) = (&flight.lane, &flight.view);
        let has_body = (!incoming.is_end_stream()).then(|| incoming.size_hint().exact());
        let plan = &view.table.splits[split];
        rewrite::request(&mut parts, peer, || [lane.random(), lane.random()]);
        let change = parts.extensions.get::<Change>().cloned();
        let copy = match change {
            Some(_) => None,
            None => mirror::plan(lane, view, split, choice.version, has_body),
        };
        let shield = plan.shield.as_ref().filter(|_| {
            plan.versions[choice.version].role == Role::Canary && retry::is_idempotent(&parts.method)
        });
        let tee = copy.as_ref().and_then(mirror::Copy::tee);
        if let Some(copy) = copy {
            copy.spawn(lane, view, split, &parts);
        }
        let upload = has_body.map(|_| {
            let keep = shield.map_or(0, |shield| shield.max_body);
            Upload::new(incoming, keep, tee, lane.flights.clone(), flight.key)
        });
        set_deadline(flight, flight.started_us, route);
        let spare = shield.map(|_| parts.clone());
        let head_only = parts.method == http::Method::HEAD;
        Outgoing { parts, upload, spare, head_only, change }
    }

    fn body(&self) -> RequestBody {
        self.upload.as_ref().map_or(RequestBody::Empty, Upload::read)
    }

    /// What may be sent to the primary now that the canary has failed.
    fn second_try(&mut self, budget: &Budget) -> Option<(Parts, RequestBody)> {
        let replayable =
            self.upload.as_ref().is_none_or(|upload| upload.is_replayable() && !upload.has_failed());
        let parts = self.spare.take_if(|_| replayable && budget.spend())?;
        Some((parts, self.body()))
    }

    fn blame(&self, fault: Fault) -> Fault {
        let client_failed = self.upload.as_ref().is_some_and(|upload| upload.has_failed());
        if client_failed { Fault::downstream(Kind::ClientGone) } else { fault }
    }
}

async fn run(
    flight: Flight,
    split: usize,
    choice: &Choice,
    mut outgoing: Outgoing,
    route: &RoutePlan,
) -> Response<AnswerBody> {
    let view = flight.view.clone();
    let budget = &view.splits[split].budget;
    budget.earn();
    let body = outgoing.body();
    let parts = std::mem::replace(&mut outgoing.parts, Request::new(()).into_parts().0);
    let mut answer = send(&flight, split, choice.version, parts, body).await;
    let failure = failure_of(&answer);
    if let Some(outcome) = failure
        && let Some((parts, body)) = outgoing.second_try(budget)
    {
        // The canary has failed, whatever the primary makes of it.
        flight.settle(outcome);
        flight.shard().shielded.add(1);
        if let Ok(failed) = answer {
            reclaim(failed);
        }
        // As much time as any other request of the primary gets: the canary's
        // was not cut short for it, so both are judged by one measure.
        set_deadline(&flight, clock::now_us(), route);
        let primary = view.table.splits[split].primary;
        view.table.splits[split].versions[primary].slot.shard(flight.lane.index).retries.add(1);
        answer = send(&flight, split, primary, parts, body).await;
    }
    match answer {
        Ok(answer) if answer.switched => switch(flight, answer, outgoing).await,
        Ok(answer) => relay(flight, answer, outgoing),
        Err(fault) => {
            if let Some(upload) = &outgoing.upload {
                flight.shard().bytes_in.add(upload.bytes());
            }
            let fault = outgoing.blame(fault);
            flight.settle(Outcome::of_fault(fault));
            local(fault)
        }
    }
}

/// Zero timeout means none.
fn set_deadline(flight: &Flight, from_us: u64, route: &RoutePlan) {
    if route.request_timeout_us != 0 {
        flight.lane.flights.set_deadline(flight.key, from_us + route.request_timeout_us);
    }
}

/// Reads a short answer that nobody wants to its end, to keep its connection.
fn reclaim(answer: Answer) {
    tokio::task::spawn_local(async move {
        let mut rest = Limited::new(answer.response.into_body(), RECLAIMED);
        while let Some(frame) = rest.frame().await {
            if frame.is_err() {
                return;
            }
        }
        answer.lease.give_back();
    });
}

async fn send(
    flight: &Flight,
    split: usize,
    version: usize,
    parts: Parts,
    body: RequestBody,
) -> Result<Answer, Fault> {
    let view = &flight.view;
    let plan = &view.table.splits[split].versions[version];
    let shard = plan.slot.shard(flight.lane.index);
    let wish = Wish { hash: None, random: &|| flight.lane.random() };
    let version = &view.splits[split].versions[version];
    flight.within(attempt(version, plan, &wish, shard, parts, body)).await?
}

/// How an attempt counts that has failed already at the head of its answer.
fn failure_of(answer: &Result<Answer, Fault>) -> Option<Outcome> {
    match answer {
        Err(fault) => (fault.at == At::Upstream).then(|| Outcome::of_fault(*fault)),
        Ok(answer) => {
            let status = answer.response.status();
            status.is_server_error().then(|| Outcome::of_status(status))
        }
    }
}

/// Hands the version's answer on; its outcome is known at the latest byte.
fn relay(flight: Flight, answer: Answer, outgoing: Outgoing) -> Response<AnswerBody> {
    // The head is here: from now on only silence is a fault.
    flight.lane.flights.set_deadline(flight.key, 0);
    let (mut parts, incoming) = answer.response.into_parts();
    parts.version = http::Version::HTTP_11;
    let mut outcome = Outcome::of_status(parts.status);
    let grpc_failure = outcome::grpc_failure(&parts.headers);
    if grpc_failure == Some(true) {
        outcome = outcome.failed();
    }
    if outcome.verdict == outcome::Verdict::Failure {
        flight.settle(outcome);
    }
    let ok = parts.status == StatusCode::OK;
    let expected = Expected {
        outcome,
        grpc: ok && grpc_failure.is_none() && outcome::is_grpc(&parts.headers),
        bodyless: outgoing.head_only
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED),
    };
    rewrite::response(&mut parts.headers, flight.age_us());
    let body = AnswerBody::relay(incoming, flight, answer.lease, outgoing.upload, &expected);
    Response::from_parts(parts, body)
}

/// The version has said yes: with its head all is known that counts.
async fn switch(flight: Flight, answer: Answer, outgoing: Outgoing) -> Response<AnswerBody> {
    let Answer { mut response, lease, .. } = answer;
    let upgrading = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let outcome = Outcome::of_status(parts.status);
    let upstream = match flight.within(upgrading).await {
        Ok(Ok(upstream)) => TokioIo::new(upstream),
        failed => {
            let fault = failed.err().unwrap_or(Fault::upstream(Kind::Reset));
            flight.settle(Outcome::of_fault(fault));
            return local(fault);
        }
    };
    drop(lease);
    flight.settle(outcome);
    parts.version = http::Version::HTTP_11;
    rewrite::response(&mut parts.headers, flight.age_us());
    if let Some(change) = &outgoing.change {
        upgrade::agree(change, &mut parts);
    }
    Response::from_parts(parts, AnswerBody::Switched(Tunnel::new(upstream, flight)))
}

fn unrouted(lane: &Lane, fault: Fault) -> Response<AnswerBody> {
    lane.counts.unrouted.add(1);
    local(fault)
}

/// Our own answer in place of one that did not come.
fn local(fault: Fault) -> Response<AnswerBody> {
    let cause = fault.kind.as_str();
    let mut response = direct(fault.status(), Bytes::from_static(cause.as_bytes()));
    response.headers_mut().insert(rewrite::CAUSE, HeaderValue::from_static(cause));
    response
}

fn direct(status: StatusCode, body: Bytes) -> Response<AnswerBody> {
    let body = if body.is_empty() { AnswerBody::Empty } else { AnswerBody::Whole(Some(body)) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
