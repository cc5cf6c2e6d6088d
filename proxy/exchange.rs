//! The life of one request, from its head to the body of its answer.

use std::borrow::Cow;
use std::rc::Rc;

use http::header::HeaderName;
use http::header::HeaderValue;
use http::header::SET_COOKIE;
use http::request::Parts;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::Limited;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use crate::admission;
use crate::admission::Marks;
use crate::answer::AnswerBody;
use crate::answer::Coming;
use crate::answer::Expected;
use crate::attempt;
use crate::attempt::attempt;
use crate::body::RequestBody;
use crate::body::Upload;
use crate::call;
use crate::call::Call;
use crate::call::Told;
use crate::compare;
use crate::edit::Answered;
use crate::edit::InForce;
use crate::edit::Kept;
use crate::edit::Scene;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::head::Fields;
use crate::head::Head;
use crate::interim::Teller;
use crate::lane::Lane;
use crate::lane::View;
use crate::message::answer::Account;
use crate::mirror;
use crate::model::Tell;
use crate::outcome;
use crate::outcome::Outcome;
use crate::outcome::Verdict;
use crate::reply::Reply;
use crate::retry;
use crate::retry::Ended;
use crate::retry::Next;
use crate::rewrite;
use crate::rewrite::Peer;
use crate::split;
use crate::split::Choice;
use crate::table::Action;
use crate::table::Found;
use crate::table::RoutePlan;
use crate::table::SplitPlan;
use crate::table::VersionPlan;
use crate::timeouts::Timeouts;
use crate::tries::Tries;
use crate::tunnel;
use crate::tunnel::Tunnel;
use crate::upgrade;
use crate::upgrade::Change;
use crate::upstream::Backend;
use crate::upstream::Lease;
use crate::upstream::Wish;

/// Of an unwanted answer no more than this is read.
const RECLAIMED: usize = 64 * 1024;
/// Of a request's body so much is kept whatever the route says: an endpoint may
/// refuse what it has not taken.
const KEPT_ANYWAY: usize = 16 * 1024;
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Answers one request. Never fails: what goes wrong becomes an answer.
pub async fn exchange(lane: Rc<Lane>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<AnswerBody> {
    let head_only = request.method() == http::Method::HEAD;
    let response = respond(lane, peer, request).await;
    if head_only { without_body(response) } else { response }
}

async fn respond(lane: Rc<Lane>, peer: Rc<Peer>, request: Request<Incoming>) -> Response<AnswerBody> {
    let view = lane.view();
    let (mut parts, incoming) = request.into_parts();
    rewrite::root(&mut parts);
    let change = match upgrade::read(&mut parts, || [lane.random(), lane.random()]) {
        Ok(change) => change,
        Err(fault) => return unrouted(&lane, Reply::of_fault(fault), outcome::is_grpc(&parts.headers)),
    };
    let mut marks = Marks::default();
    let mut response = routed(&lane, &view, &peer, parts, incoming, change.as_ref(), &mut marks).await;
    marks.put_into(response.headers_mut());
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
    marks: &mut Marks,
) -> Response<AnswerBody> {
    let head = match Head::of(&parts) {
        Ok(head) => head,
        Err(fault) => return unrouted(lane, Reply::of_fault(fault), outcome::is_grpc(&parts.headers)),
    };
    let grpc = head.is_grpc();
    let Some(Found { route, matched }) = view.table.find(&head, || lane.random()) else {
        let fault = Fault { at: At::Proxy, kind: Kind::NoRoute };
        return unrouted(lane, Reply::of_fault(fault), grpc);
    };
    if change.is_some_and(|change| !change.is_allowed(&route.upgrades)) {
        return unrouted(lane, Reply::of_fault(Fault::downstream(Kind::UpgradeRefused)), grpc);
    }
    let scene = Scene {
        peer,
        client: peer.client(&head),
        protocol: parts.version,
        route: &route.name,
        version: "",
        matched,
    };
    if let Some(gates) = &route.gates
        && let Some((reply, edits)) = Box::pin(admission::pass(lane, gates, &head, marks)).await
    {
        let reply = if edits { route.edited(reply, &head, &scene) } else { reply };
        return unrouted(lane, reply, grpc);
    }
    if let Some(reply) = route.reply(&head, &scene) {
        return unrouted(lane, reply, grpc);
    }
    let Action::Split(split) = route.action else { unreachable!("every other action has answered") };
    let plan = &view.table.splits[split];
    let toss = view.splits[split].toss();
    let mut choice = split::choose(&toss.generation, &plan.rules(&route.name), &head, peer, lane.random());
    let has_body = !incoming.is_end_stream();
    let timeouts = timeouts_of(route, &parts.headers);
    let idempotent = retry::is_idempotent(parts.method.as_str());
    let tries = Tries::new(view, route, split, choice.version, idempotent, &head);
    let hashed = route.hash(plan, choice.version, &head, peer);
    choice.set_cookies.extend(hashed.set_cookies);
    let mut flight = Flight::begin(lane, view.clone(), split, toss, &choice, timeouts, has_body);
    flight.hash = hashed.hash;
    let mut response = match change {
        Some(change) if change.ends_here(&route.upgrades) => {
            Box::pin(terminate(flight, split, &choice)).await
        }
        change => {
            parts.extensions = carried(&mut parts.extensions, change);
            let outgoing = Outgoing::new(&flight, &tries, &choice, parts, incoming, &scene, grpc);
            run(flight, split, tries, outgoing, route, &scene).await
        }
    };
    for cookie in choice.set_cookies.iter().filter_map(|cookie| HeaderValue::from_str(cookie).ok()) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// What is known of a request beside its head, for whoever sends it.
fn carried(known: &mut http::Extensions, change: Option<&Change>) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    change.map(|change| extensions.insert(change.clone()));
    known.remove::<RequestTimeout>().map(|timeout| extensions.insert(timeout));
    known.remove::<Teller>().map(|teller| extensions.insert(teller));
    extensions
}

/// Answers a CONNECT ourselves once an endpoint has taken the connection.
async fn terminate(flight: Flight, split: usize, choice: &Choice) -> Response<AnswerBody> {
    let version = &flight.view.splits[split].versions[choice.version];
    let wish = Wish { hash: flight.hash, random: &|| flight.lane.random() };
    let reached = flight.within(tunnel::reach(version, flight.plan(), &wish, flight.shard())).await;
    match reached.unwrap_or_else(Err) {
        Ok(link) => {
            flight.settle(Outcome::of_status(StatusCode::OK));
            let (wire, held) = link.into_parts();
            Response::new(AnswerBody::Switched(Tunnel::new(wire, flight, held)))
        }
        Err(fault) => {
            flight.settle(Outcome::of_fault(fault));
            written(Reply::of_fault(fault).seal(false))
        }
    }
}

/// Its route's, or the caller's own where that is to be obeyed.
fn timeouts_of(route: &RoutePlan, headers: &HeaderMap) -> Timeouts {
    match route.grpc_timeout_us {
        Some(most_us) if outcome::is_grpc(headers) => {
            let said = headers.get(GRPC_TIMEOUT).map(HeaderValue::as_bytes);
            route.timeouts.said_by_grpc(said, most_us)
        }
        _ => route.timeouts,
    }
}

/// How long the listener waits for all of a request; goes with the request.
#[derive(Clone, Copy)]
pub struct RequestTimeout(pub u64);

/// A request ready to be sent, perhaps more than once.
struct Outgoing {
    parts: Parts,
    upload: Option<Rc<Upload>>,
    /// The answer has no body, whatever its head says.
    head_only: bool,
    change: Option<Change>,
    grpc: bool,
    /// What is told of the client is written with the head, and not among its fields.
    introduces: bool,
}

impl Outgoing {
    fn new(
        flight: &Flight,
        tries: &Tries,
        choice: &Choice,
        mut parts: Parts,
        incoming: Incoming,
        scene: &Scene<'_>,
        grpc: bool,
    ) -> Outgoing {
        let (lane, view, split) = (&flight.lane, &flight.view, flight.split);
        let has_body = (!incoming.is_end_stream()).then(|| incoming.size_hint().exact());
        let introduces =
            introduces(&view.table.splits[split], view.table.route(tries.route), &parts, scene.peer);
        let draw_id = || {
            flight.id.set([lane.random(), lane.random()]);
            flight.id.get()
        };
        if introduces {
            draw_id();
        } else {
            rewrite::request(&mut parts, scene.peer, draw_id);
        }
        if view.table.splits[split].versions.iter().any(|version| version.carriage.proxy_header.is_some())
            && let Some(ends) = scene.peer.ends()
        {
            parts.extensions.insert(ends);
        }
        let change = parts.extensions.get::<Change>().cloned();
        let copy = match change {
            Some(_) => None,
            None => mirror::plan(lane, view, split, choice, has_body),
        };
        let tee = copy.as_ref().and_then(mirror::Copy::tee);
        if let Some(copy) = copy {
            let mut copied = parts.clone();
            copied.extensions.remove::<Teller>();
            let asked = &view.table.splits[split].versions[choice.version];
            shape(&mut copied, view.table.route(tries.route), asked, scene);
            if let Some(pair) = &copy.pair {
                // A request has at most one copy.
                let _ = flight.pair.set(pair.clone());
            }
            let method = copied.method.as_str();
            if let Some(sample) = compare::picks(lane, view, split, &copy, method, has_body.is_some()) {
                sample.spawn(lane, view, tries.route, copied.clone());
            }
            copy.spawn(lane, view, split, tries.route, copied);
        }
        let within = parts.extensions.get::<RequestTimeout>();
        if let (Some(RequestTimeout(us)), Some(_)) = (within, has_body) {
            lane.flights.set_request_timeout(flight.key, *us);
        }
        let upload = has_body.map(|_| {
            let keep = tries.body_kept(view).max(KEPT_ANYWAY);
            Upload::new(incoming, keep, tee, lane.flights.clone(), flight.key)
        });
        let head_only = parts.method == http::Method::HEAD;
        Outgoing { parts, upload, head_only, change, grpc, introduces }
    }

    /// The request as the next attempt sends it, copied where that differs.
    fn request(
        &self,
        flight: &Flight,
        tries: &Tries,
        tell: Tell,
        edits: impl FnOnce(&mut Cow<'_, Parts>),
    ) -> (Cow<'_, Parts>, RequestBody) {
        let mut parts = Cow::Borrowed(&self.parts);
        edits(&mut parts);
        if tell.attempts_up {
            parts.to_mut().headers.insert(rewrite::ATTEMPT_COUNT, HeaderValue::from(tries.count));
        }
        if let Some(left_us) = tell.time_left.then(|| flight.time_left_us()).flatten() {
            parts.to_mut().headers.insert(rewrite::EXPECTED_TIME, HeaderValue::from(left_us / 1000));
        }
        (parts, self.upload.as_ref().map_or(RequestBody::Empty, Upload::read))
    }

    fn can_resend(&self) -> bool {
        self.upload.as_ref().is_none_or(|upload| upload.is_whole())
    }

    fn blame(&self, fault: Fault) -> Fault {
        let client_failed = self.upload.as_ref().is_some_and(|upload| upload.has_failed());
        if client_failed { Fault::downstream(Kind::ClientGone) } else { fault }
    }
}

/// Is there nobody who would look among the fields for what a version is told of the client?
fn introduces(split: &SplitPlan, route: &RoutePlan, parts: &Parts, peer: &Peer) -> bool {
    let is_left_as_it_is = |version: &VersionPlan| version.edits.is_none() && call::is_http1(version);
    peer.introduces()
        && split.mirror.is_none()
        && route.edits.is_none()
        && split.versions.iter().all(is_left_as_it_is)
        && parts.uri.authority().is_some()
        && call::is_usual(parts)
        && rewrite::is_plain(&parts.headers)
}

/// The head of an answer, whoever has read it, and what its body comes from.
struct Answer {
    response: Response<Coming>,
    account: Account,
    lease: Option<Lease>,
    /// The connection, or its stream, is no longer HTTP.
    switched: bool,
}

/// Makes the edits of the route and of the version that is asked, if there are any.
fn shape_copy(
    parts: &mut Cow<'_, Parts>,
    route: &RoutePlan,
    version: &VersionPlan,
    backend: &Backend,
    scene: &Scene<'_>,
) -> Kept {
    if version.edits.is_none() && route.edits.is_none() {
        return Kept::default();
    }
    let parts = parts.to_mut();
    let kept = shape(parts, route, version, scene);
    if let Some(edits) = &route.edits {
        edits.edit_endpoint(parts, backend.host.hostname.as_deref());
    }
    kept
}

/// Makes the edits of the route and of the version that is asked.
fn shape(parts: &mut Parts, route: &RoutePlan, version: &VersionPlan, scene: &Scene<'_>) -> Kept {
    let edits = InForce { version: version.edits.as_deref(), route: route.edits.as_deref() };
    if edits.is_none() {
        return Kept::default();
    }
    edits.edit_request(parts, &Scene { version: &version.label, ..*scene })
}

async fn run(
    flight: Flight,
    split: usize,
    mut tries: Tries,
    outgoing: Outgoing,
    route: &RoutePlan,
    scene: &Scene<'_>,
) -> Response<AnswerBody> {
    let (tell, view) = (route.tell, flight.view.clone());
    view.splits[split].budget.earn();
    let (mut kept, mut asked) = (Kept::default(), None);
    let (answer, counts) = loop {
        let edits = |parts: &mut Cow<'_, Parts>, version: &VersionPlan, backend: &Rc<Backend>| {
            kept = shape_copy(parts, route, version, backend, scene);
            asked = Some(backend.clone());
        };
        let answer = send(&flight, split, &mut tries, &outgoing, scene.peer, tell, edits).await;
        let ended = ended(&flight, &tries, &outgoing, &answer);
        match tries.next(&flight, &ended, outgoing.can_resend()) {
            Next::Pass(_) => break (answer, ended.counts()),
            Next::Again { .. } | Next::Instead(_) => {}
        }
        if let Some(pair) = flight.pair.get().filter(|_| ended.was_taken()) {
            pair.original_is_retried();
        }
        if let Ok(unwanted) = answer {
            reclaim(unwanted);
        }
        if let Err(fault) = flight.within(flight.rest()).await {
            break (Err(fault), None);
        }
    };
    let version = &view.table.splits[split].versions[tries.version];
    let edits = InForce { version: version.edits.as_deref(), route: route.edits.as_deref() };
    let edit = |headers: &mut HeaderMap, status: StatusCode| {
        let upstream = asked.as_ref().map(|backend| &backend.host.location as &dyn std::fmt::Display);
        let answered = Answered { status: status.as_u16(), version: &version.label, upstream };
        edits.edit_answer(headers, &kept, &answered);
    };
    let mut response = match answer {
        Ok(answer) => {
            let mut response = match answer.switched {
                true => Box::pin(switch(flight, answer, outgoing)).await,
                false => relay(flight, answer, outgoing, route, counts),
            };
            let status = response.status();
            edit(response.headers_mut(), status);
            response
        }
        Err(fault) => {
            if let Some(upload) = &outgoing.upload {
                flight.shard().bytes_in.add(upload.bytes());
            }
            let fault = outgoing.blame(fault);
            flight.settle(Outcome::of_fault(fault));
            let mut reply = Reply::of_fault(fault);
            edit(&mut reply.headers, reply.status);
            written(reply.seal(outgoing.grpc))
        }
    };
    if tell.attempts_down {
        response.headers_mut().insert(rewrite::ATTEMPT_COUNT, HeaderValue::from(tries.count));
    }
    response
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
        if let Some(lease) = answer.lease {
            lease.give_back();
        }
    });
}

/// One attempt.
async fn send(
    flight: &Flight,
    split: usize,
    tries: &mut Tries,
    outgoing: &Outgoing,
    peer: &Peer,
    tell: Tell,
    edits: impl FnOnce(&mut Cow<'_, Parts>, &VersionPlan, &Rc<Backend>),
) -> Result<Answer, Fault> {
    let backend = tries.begin(flight).ok_or(Fault::upstream(Kind::NoHealthyUpstream))?;
    let plan = &flight.view.table.splits[split].versions[tries.version];
    let (parts, body) = outgoing.request(flight, tries, tell, |parts| edits(parts, plan, &backend));
    if outgoing.introduces || call::fits(plan, &parts) {
        let (lane, backend, repeatable) = (&flight.lane, &backend, tries.is_idempotent());
        let told = outgoing.introduces.then(|| Told { peer, id: flight.id.get() });
        let call = Call { lane, backend, plan, fresh: tries.fresh, repeatable, told };
        let (response, account) = flight.within(call.make(&parts, body)).await??;
        let response = response.map(|arrival| Coming::Own(Box::new(arrival)));
        return Ok(Answer { response, account, lease: None, switched: false });
    }
    // Boxed: hyper's way is the longer one, and the rarer.
    let asked = Box::pin(attempt(&backend, plan, tries.fresh, parts.into_owned(), body));
    let attempt::Answer { response, lease, switched } = flight.within(asked).await??;
    let account = Account::of(response.headers());
    Ok(Answer { response: response.map(Coming::Hyper), account, lease: Some(lease), switched })
}

fn ended(flight: &Flight, tries: &Tries, outgoing: &Outgoing, answer: &Result<Answer, Fault>) -> Ended {
    match answer {
        Err(fault) => Ended::Failed(outgoing.blame(*fault)),
        Ok(answer) => {
            let (status, headers) = (answer.response.status().as_u16(), answer.response.headers());
            tries.hear(flight, status, answer.account.has_failed(), answer.account.resigns);
            Ended::Answered(tries.signs(&flight.view, status, Fields::Map(headers)))
        }
    }
}

/// Hands the version's answer on; its outcome is known at the latest byte.
fn relay(
    flight: Flight,
    answer: Answer,
    outgoing: Outgoing,
    route: &RoutePlan,
    counts: Option<Verdict>,
) -> Response<AnswerBody> {
    // The head is here: from now on only silence is a fault.
    flight.lane.flights.head_came(flight.key);
    let (mut parts, incoming) = answer.response.into_parts();
    let bare = matches!(incoming, Coming::Own(_)) || parts.version == http::Version::HTTP_2;
    parts.version = http::Version::HTTP_11;
    let mut outcome = Outcome::of_status(parts.status);
    if answer.account.has_failed() {
        outcome = outcome.failed();
    }
    outcome = outcome.counted(counts);
    if outcome.verdict != Verdict::Success {
        flight.settle(outcome);
    }
    let ok = parts.status == StatusCode::OK;
    let expected = Expected {
        outcome,
        counting: route.counting.clone(),
        grpc: ok && answer.account.grpc_failure.is_none() && answer.account.grpc,
        bodyless: outgoing.head_only
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED),
    };
    rewrite::response(&mut parts.headers, bare, flight.age_us());
    let body = AnswerBody::relay(incoming, flight, answer.lease, outgoing.upload, expected);
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
            return written(Reply::of_fault(fault).seal(outgoing.grpc));
        }
    };
    flight.settle(outcome);
    parts.version = http::Version::HTTP_11;
    rewrite::response(&mut parts.headers, false, flight.age_us());
    if let Some(change) = &outgoing.change {
        upgrade::agree(change, &mut parts);
    }
    Response::from_parts(parts, AnswerBody::Switched(Tunnel::new(upstream, flight, lease)))
}

/// To a request that is not looked at any further.
pub fn answer_ourselves<B>(lane: &Lane, request: &Request<B>, reply: Reply) -> Response<AnswerBody> {
    let response = unrouted(lane, reply, outcome::is_grpc(request.headers()));
    if request.method() == http::Method::HEAD { without_body(response) } else { response }
}

fn unrouted(lane: &Lane, reply: Reply, grpc: bool) -> Response<AnswerBody> {
    lane.counts.unrouted.add(1);
    written(reply.seal(grpc))
}

/// An answer of our own to HEAD only says how long it would be.
fn without_body(mut response: Response<AnswerBody>) -> Response<AnswerBody> {
    if let AnswerBody::Whole(Some(body)) = response.body() {
        let length = HeaderValue::from(body.len());
        response.headers_mut().insert(http::header::CONTENT_LENGTH, length);
        *response.body_mut() = AnswerBody::Whole(None);
    }
    response
}

fn written(reply: Reply) -> Response<AnswerBody> {
    let Reply { status, headers, body, .. } = reply;
    let body = AnswerBody::Whole((!body.is_empty()).then_some(body));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
