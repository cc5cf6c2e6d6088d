//! A request that has passed: routed, tossed, and written for the upstream.

use std::mem::MaybeUninit;
use std::ops::Range;

use http::Method;
use http::header::HeaderName;

use crate::flight::Flight;
use crate::h1::client::Client;
use crate::h1::converse::Upload;
use crate::h1::field::MAX_FIELDS;
use crate::h1::request;
use crate::h1::request::Unfit;
use crate::head::Head;
use crate::model::Limits;
use crate::model::Tell;
use crate::retry;
use crate::rewrite;
use crate::split;
use crate::table::Action;
use crate::table::RoutePlan;
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
    pub set_cookie: Option<String>,
}

impl Client<'_> {
    /// Finds the route, tosses the coin and writes the head that goes up.
    /// Whether a request is irregular may not depend on the coin: it would be
    /// tossed once more.
    /// Answers also with how many bytes of the input are dealt with.
    pub fn ask(&self, length: usize, limits: &Limits) -> Result<(Question, usize), Unfit> {
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
        if !view.splits[split].plain || !is_plain(route, &head) {
            return Err(Unfit::Irregular);
        }
        let toss = view.splits[split].toss();
        let choice = split::choose(&toss.generation, &plan.force, plan.sticky.as_ref(), &head, lane.random());
        let tries = Tries::new(&view, route, split, choice.version, idempotent, &head);
        let mut out = lane.texts.take();
        request.write(self.peer, || [lane.random(), lane.random()], &mut out);
        let tell = route.tell;
        let told = (tell.attempts_up || tell.time_left).then(|| out.len() - 2..out.len() - 2);
        let flight = Flight::begin(lane, view.clone(), split, toss, &choice, route.timeouts, has_body);
        view.splits[split].budget.earn();
        let keep = if has_body { tries.body_kept(&view) } else { 0 };
        let mut upload = Upload::new(request.framing, keep);
        let taken = length + upload.ride(&mut out, rest);
        if has_body && upload.has_ended() {
            flight.lane.flights.request_ended(flight.key);
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
            set_cookie: choice.set_cookie,
        };
        Ok((question, taken))
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
