//! A request that has passed: routed, tossed, and written for the upstream.

use std::mem::MaybeUninit;

use http::Method;

use crate::flight::Flight;
use crate::h1::client::Client;
use crate::h1::converse::Upload;
use crate::h1::field::MAX_FIELDS;
use crate::h1::request;
use crate::h1::request::Unfit;
use crate::head::Head;
use crate::model::Limits;
use crate::model::Role;
use crate::retry;
use crate::split;
use crate::table::Action;

/// A request that is on its way: all that is needed of it once its bytes are gone.
pub struct Question {
    pub flight: Flight,
    pub split: usize,
    pub version: usize,
    /// The head as the upstream gets it, with our fields.
    pub head: Vec<u8>,
    pub upload: Upload,
    pub head_only: bool,
    /// Sent again on a new connection if a kept one was closed under it.
    pub repeatable: bool,
    /// Sent again to the primary if the canary fails.
    pub shielded: bool,
    pub close: bool,
    pub set_cookie: Option<String>,
    pub timeout_us: u64,
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
}
