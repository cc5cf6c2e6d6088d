//! A request that has passed: routed, tossed, and written for the upstream.

use std::ops::Range;

use http::Method;
use http::header::HeaderName;

use crate::clock;
use crate::edit::InForce;
use crate::edit::Kept;
use crate::edit::Scene;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::h1::client::Client;
use crate::h1::converse::Upload;
use crate::h1::lines::Lines;
use crate::h1::request;
use crate::h1::request::RequestHead;
use crate::h1::request::Unfit;
use crate::h1::scan::Fields;
use crate::head::Head;
use crate::lane::Lane;
use crate::model::Limits;
use crate::model::Tell;
use crate::reply::Reply;
use crate::retry;
use crate::rewrite;
use crate::split;
use crate::table::Action;
use crate::table::Found;
use crate::table::RoutePlan;
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
}

/// A request that we answer ourselves.
pub struct Local {
    pub reply: Reply,
    pub head_only: bool,
    pub close: bool,
    /// None of its body is missing any more.
    pub whole: bool,
}

#[expect(clippy::large_enum_variant, reason = "the large one is the common one")]
pub enum Asked {
    Question(Question),
    Local(Local),
}

impl Client<'_> {
    /// Finds the route, tosses the coin and writes the head that goes up.
    /// Whether a request is irregular may not depend on the coin: it would be
    /// tossed once more.
    /// Answers also with how many bytes of the input are dealt with.
    pub fn ask(&self, most: usize, limits: &Limits) -> Result<(Asked, usize), Unfit> {
        let mut memory = Fields::new();
        let filled = self.input.filled();
        let request = request::parse(&filled[..most], &mut memory)?;
        let (length, rest) = (request.length, &filled[request.length..]);
        let fields = request.fields.list();
        let concerned = self.manners.is_some_and(|manners| manners.concern(request.target));
        if concerned || fields.len() > limits.max_headers {
            return Err(Unfit::Irregular);
        }
        let lane = self.lane;
        let view = lane.view();
        let head = Head::of_list(request.method, request.target, request.host, fields);
        if view.table.is_random(&head) {
            return Err(Unfit::Irregular);
        }
        let Some(Found { route, matched }) = view.table.find(&head, || 0) else {
            let fault = Fault { at: At::Proxy, kind: Kind::NoRoute };
            return Ok(self.answer_locally(request, Reply::of_fault(fault), length));
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
        let (idempotent, has_body) = (is_idempotent(request.method), !request.framing.is_done());
        let edited = has_successor(route) && plan.versions.iter().any(|version| version.edits.is_some());
        let toss = view.splits[split].toss();
        let copies = toss.generation.weights.copied() > 0;
        if !view.splits[split].plain || copies || edited || !is_plain(route, &head) {
            return Err(Unfit::Irregular);
        }
        let mut choice = split::choose(&toss.generation, &plan.rules(), &head, self.peer, lane.random());
        let tries = Tries::new(&view, route, split, choice.version, idempotent, &head);
        let mut out = lane.texts.take();
        let mut id = [0, 0];
        request.write(self.peer, || random_id(lane, &mut id), &mut out);
        let kept = edit(&mut out, route, &plan.versions[choice.version], scene);
        let tell = route.tell;
        let told = (tell.attempts_up || tell.time_left).then(|| out.len() - 2..out.len() - 2);
        let hashed = route.hash(plan, choice.version, &head, self.peer);
        choice.set_cookies.extend(hashed.set_cookies);
        let mut flight = Flight::begin(lane, view.clone(), split, toss, &choice, route.timeouts, has_body);
        (flight.hash, *flight.id.get_mut()) = (hashed.hash, id);
        view.splits[split].budget.earn();
        let keep = if has_body { tries.body_kept(&view) } else { 0 };
        let mut upload = Upload::new(request.framing, keep);
        let taken = length + upload.ride(&mut out, rest);
        if has_body {
            time_body(&flight, &upload, limits);
        }
        let question = Question {
            flight,
            split,
            head: out,
            head_only: request.method == "HEAD",
            upload,
            tries,
            tell,
            told,
            close: request.close,
            set_cookies: choice.set_cookies,
            grpc: request.grpc,
            kept,
        };
        Ok((Asked::Question(question), taken))
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
        (Asked::Local(local), length + count)
    }
}

/// Makes the edits of the route and of the version that is asked.
fn edit(out: &mut Vec<u8>, route: &RoutePlan, version: &VersionPlan, scene: Scene<'_>) -> Kept {
    let edits = InForce { version: version.edits.as_deref(), route: route.edits.as_deref() };
    if edits.is_none() {
        return Kept::default();
    }
    edits.edit_request(&mut Lines(out), &Scene { version: &version.label, ..scene })
}

/// After its version another may be asked.
fn has_successor(route: &RoutePlan) -> bool {
    route.retry.as_ref().is_some_and(|retry| retry.then.is_some())
}

/// Drawn only for a request that has no id yet.
fn random_id(lane: &Lane, id: &mut [u64; 2]) -> [u64; 2] {
    *id = [lane.random(), lane.random()];
    *id
}

fn is_idempotent(method: &str) -> bool {
    Method::from_bytes(method.as_bytes()).is_ok_and(|method| retry::is_idempotent(&method))
}

/// A body has a time of its own, unless it is here already.
fn time_body(flight: &Flight, upload: &Upload, limits: &Limits) {
    let flights = &flight.lane.flights;
    if upload.has_ended() {
        flights.request_ended(flight.key);
    } else if let Some(timeout) = limits.request_timeout {
        flights.set_request_timeout(flight.key, clock::us(timeout));
    }
}

/// What is told anew to each attempt must not be there already, and gRPC has
/// timeouts of its own.
fn is_plain(route: &RoutePlan, head: &Head<'_>) -> bool {
    let (tell, has) = (&route.tell, |name: &HeaderName| head.field(name).is_some());
    !((tell.attempts_up && has(&rewrite::ATTEMPT_COUNT))
        || (tell.time_left && has(&rewrite::EXPECTED_TIME))
        || (route.grpc_timeout_us.is_some() && has(&GRPC_TIMEOUT)))
}
