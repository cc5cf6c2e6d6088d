//! A request that has passed: routed, tossed, and written for the upstream.

use std::ops::Range;
use std::rc::Rc;

use http::header::HeaderName;
use http::request::Parts;

use crate::clock;
use crate::compare;
use crate::edit::InForce;
use crate::edit::Kept;
use crate::edit::Scene;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::flights::Toss;
use crate::h1::client::Client;
use crate::h1::converse::RIDE_ALONG;
use crate::h1::converse::Upload;
use crate::h1::copy::Copy;
use crate::h1::copy::Draft;
use crate::h1::field;
use crate::h1::framing::Framing;
use crate::h1::lines::Lines;
use crate::h1::request;
use crate::h1::request::RequestHead;
use crate::h1::request::Unfit;
use crate::h1::scan::Fields;
use crate::head::Head;
use crate::lane::Lane;
use crate::lane::View;
use crate::mirror;
use crate::model::Limits;
use crate::model::Tell;
use crate::reply::Reply;
use crate::retry;
use crate::rewrite;
use crate::split;
use crate::table::Action;
use crate::table::Found;
use crate::table::RoutePlan;
use crate::table::SplitPlan;
use crate::table::VersionPlan;
use crate::tries::Tries;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A request that is on its way: all that is needed of it once its bytes are gone.
pub struct Question {
    pub flight: Flight,
    pub split: usize,
    /// The head as the upstream gets it, with our fields.
    pub head: Vec<u8>,
    pub upload: Upload,
    pub head_only: bool,
    pub tries: Tries,
    pub tell: Tell,
    /// Where in the head stands what each attempt is told anew, if it is.
    pub told: Option<Range<usize>>,
    pub close: bool,
    pub set_cookies: Vec<String>,
    pub grpc: bool,
    /// What the edits of the answer have to know.
    pub kept: Kept,
    /// For the mirror, until it is sent.
    pub copy: Option<Box<Copy>>,
}

/// A request that we answer ourselves.
pub struct Local {
    pub reply: Reply,
    pub head_only: bool,
    pub close: bool,
    /// None of its body is missing any more.
    pub whole: bool,
}

/// Boxed: a connection that waits for a request has no room for one.
pub enum Asked {
    Question(Box<Question>),
    Local(Box<Local>),
}

const NO_ROUTE: Fault = Fault { at: At::Proxy, kind: Kind::NoRoute };

impl Client<'_> {
    /// Finds the route, tosses the coin and writes the head that goes up.
    /// Whether a request is irregular may not depend on the coin: it would be
    /// tossed once more.
    /// Answers also with how many bytes of the input are dealt with.
    pub fn ask(&self, most: usize, limits: &Limits) -> Result<(Asked, usize), Unfit> {
        let mut memory = Fields::new();
        let filled = self.input.filled();
        let request = request::parse(&filled[..most], &mut memory)?;
        let (length, rest, fields) = (request.length, &filled[request.length..], request.fields.list());
        let concerned = self.manners.is_some_and(|manners| manners.concern(request.target));
        if concerned || fields.len() > limits.max_headers {
            return Err(Unfit::Irregular);
        }
        let (lane, view) = (self.lane, self.lane.view());
        let head = Head::of_list(request.method, request.target, request.host, fields);
        let host = view.table.host(&head);
        if host.is_some_and(|host| host.random) {
            return Err(Unfit::Irregular);
        }
        let Some(Found { route, matched }) = host.and_then(|host| host.find(&head, || 0)) else {
            return Ok(self.answer_locally(request, Reply::of_fault(NO_ROUTE), length));
        };
        if !route.plain {
            return Err(Unfit::Irregular);
        }
        let (peer, protocol) = (self.peer, http::Version::HTTP_11);
        let scene =
            Scene { peer, client: peer.client(&head), protocol, route: &route.name, version: "", matched };
        if let Some(reply) = route.reply(&head, &scene) {
            return Ok(self.answer_locally(request, reply, length));
        }
        let Action::Split(split) = route.action else { return Err(Unfit::Irregular) };
        let plan = &view.table.splits[split];
        let (idempotent, has_body) = (retry::is_idempotent(request.method), !request.framing.is_done());
        let toss = view.splits[split].toss();
        let copyable = !is_mirrored(plan, &toss) || is_copyable(&request, rest.len(), plan, route, &head);
        if !view.splits[split].plain || is_edited_late(route, plan) || !copyable || !is_plain(route, &head) {
            return Err(Unfit::Irregular);
        }
        let mut choice =
            split::choose(&toss.generation, &plan.rules(&route.name), &head, self.peer, lane.random());
        let tries = Tries::new(&view, route, split, choice.version, idempotent, &head);
        let (mut out, mut id) = (lane.texts.take(), [0, 0]);
        request.write(self.peer, || random_id(lane, &mut id), &mut out);
        let kept = edit(&mut out, route, &plan.versions[choice.version], scene);
        let told = (route.tell.attempts_up || route.tell.time_left).then(|| out.len() - 2..out.len() - 2);
        let copy = mirror::plan(lane, &view, split, &choice, None)
            .map(|copy| self.copy(copy, (&view, split, route), &request, &out, rest, idempotent));
        let hashed = route.hash(plan, choice.version, &head, self.peer);
        choice.set_cookies.extend(hashed.set_cookies);
        let mut flight = Flight::begin(lane, view.clone(), split, toss, &choice, route.timeouts, has_body);
        (flight.hash, *flight.id.get_mut()) = (hashed.hash, id);
        view.splits[split].budget.earn();
        copy.iter().for_each(|copy| copy.pair_with(&flight));
        let mut upload = Upload::new(request.framing, if has_body { tries.body_kept(&view) } else { 0 });
        let taken = length + upload.ride(&mut out, rest);
        time_body(&flight, &upload, limits, has_body);
        let question = Box::new(Question {
            flight,
            split,
            head: out,
            head_only: request.method == "HEAD",
            upload,
            tries,
            tell: route.tell,
            told,
            close: request.close,
            set_cookies: choice.set_cookies,
            grpc: request.grpc,
            kept,
            copy,
        });
        Ok((Asked::Question(question), taken))
    }

    /// The same request for the mirror: `out` is the head as the user's version
    /// gets it.
    fn copy(
        &self,
        plan: mirror::Copy,
        (view, split, route): (&Rc<View>, usize, &RoutePlan),
        request: &RequestHead<'_>,
        out: &[u8],
        body: &[u8],
        idempotent: bool,
    ) -> Box<Copy> {
        let mut bytes = self.lane.texts.take();
        bytes.extend_from_slice(&out[..out.len() - 2]);
        field::push(&mut bytes, rewrite::MIRROR.as_str(), b"1");
        bytes.extend_from_slice(b"\r\n");
        let length = match request.framing {
            Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX).min(body.len()),
            _ => 0,
        };
        bytes.extend_from_slice(&body[..length]);
        let has_body = !request.framing.is_done();
        if let Some(sample) = compare::picks(self.lane, view, split, &plan, request.method, has_body)
            && let Some(mut parts) = parts_of(out)
        {
            self.peer.ends().map(|ends| parts.extensions.insert(ends));
            sample.spawn(self.lane, view, route.id, parts);
        }
        let draft = Draft {
            plan,
            view: view.clone(),
            split,
            route: route.id,
            bytes,
            head_only: request.method == "HEAD",
            repeatable: idempotent && length == 0,
            ends: self.peer.ends(),
        };
        Copy::new(self.lane, draft)
    }

    fn answer_locally(&self, request: RequestHead<'_>, reply: Reply, length: usize) -> (Asked, usize) {
        let mut framing = request.framing;
        let rest = &self.input.filled()[length..];
        // A body that is none is not read on; the connection ends.
        let count = framing.advance(rest).unwrap_or(0);
        let local = Local {
            reply: reply.seal(request.grpc),
            head_only: request.method == "HEAD",
            close: request.close,
            whole: framing.is_done(),
        };
        (Asked::Local(Box::new(local)), length + count)
    }
}

/// A written head in the words of hyper.
fn parts_of(head: &[u8]) -> Option<Parts> {
    let mut memory = Fields::new();
    let written = request::parse(head, &mut memory).ok()?;
    let mut request = http::Request::builder().method(written.method).uri(written.target);
    for field in written.fields.list() {
        request = request.header(field.name, field.value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// Makes the edits of the route and of the version that is asked.
fn edit(out: &mut Vec<u8>, route: &RoutePlan, version: &VersionPlan, scene: Scene<'_>) -> Kept {
    let edits = InForce { version: version.edits.as_deref(), route: route.edits.as_deref() };
    if edits.is_none() {
        return Kept::default();
    }
    edits.edit_request(&mut Lines(out), &Scene { version: &version.label, ..scene })
}

/// After its version another may be asked, for whom other edits are made.
fn is_edited_late(route: &RoutePlan, plan: &SplitPlan) -> bool {
    let has_successor = route.retry.as_ref().is_some_and(|retry| retry.then.is_some());
    has_successor && plan.versions.iter().any(|version| version.edits.is_some())
}

/// Drawn only for a request that has no id yet.
fn random_id(lane: &Lane, id: &mut [u64; 2]) -> [u64; 2] {
    *id = [lane.random(), lane.random()];
    *id
}

/// A body has a time of its own, unless it is here already.
fn time_body(flight: &Flight, upload: &Upload, limits: &Limits, has_body: bool) {
    let flights = &flight.lane.flights;
    if !has_body {
        // Nothing to wait for.
    } else if upload.has_ended() {
        flights.request_ended(flight.key);
    } else if let Some(timeout) = limits.request_timeout {
        flights.set_request_timeout(flight.key, clock::us(timeout));
    }
}

/// The mirror of a trial is one while the weights have it so.
fn is_mirrored(plan: &SplitPlan, toss: &Toss) -> bool {
    let on_trial = plan.mirror.as_ref().map(|(_, mirror)| mirror.on_trial);
    on_trial.is_some_and(|on_trial| !on_trial || toss.generation.weights.copied() > 0)
}

/// A copy is made at once or not here: its body is in hand, and nothing of its
/// answer's trailers is asked for.
fn is_copyable(
    request: &RequestHead<'_>,
    here: usize,
    plan: &SplitPlan,
    route: &RoutePlan,
    head: &Head<'_>,
) -> bool {
    let most = plan.mirror.as_ref().map_or(0, |(_, mirror)| mirror.max_body).min(RIDE_ALONG);
    let in_hand = match request.framing {
        Framing::None => true,
        Framing::Length(length) => length <= here.min(most) as u64,
        Framing::Chunked(_) | Framing::UntilClose => false,
    };
    let asks_grpc = request.grpc || route.counting.as_ref().is_some_and(|counting| counting.asks_grpc);
    in_hand && !asks_grpc && head.field(&rewrite::MIRROR).is_none()
}

/// What is told anew to each attempt must not be there already, and gRPC has
/// timeouts of its own.
fn is_plain(route: &RoutePlan, head: &Head<'_>) -> bool {
    let (tell, has) = (&route.tell, |name: &HeaderName| head.field(name).is_some());
    !((tell.attempts_up && has(&rewrite::ATTEMPT_COUNT))
        || (tell.time_left && has(&rewrite::EXPECTED_TIME))
        || (route.grpc_timeout_us.is_some() && has(&GRPC_TIMEOUT)))
}
