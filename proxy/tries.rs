//! The attempts of one request as both codecs make them: which version and
//! endpoint is asked, what is counted, and what follows when one has ended.
//!
//! The decision is [`Attempts`]'; here it gets its means and its consequences,
//! as far as these need no connection.

use std::cmp::Reverse;
use std::rc::Rc;

use crate::breaker::Permit;
use crate::clock;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::flight::Flight;
use crate::head::Fields;
use crate::head::Head;
use crate::hosts::Lesson;
use crate::lane::View;
use crate::location::Location;
use crate::model::Role;
use crate::outcome::Outcome;
use crate::retry::Attempts;
use crate::retry::Ended;
use crate::retry::Instead;
use crate::retry::Means;
use crate::retry::Next;
use crate::retry::Plan;
use crate::retry::Signs;
use crate::retry::Stop;
use crate::table::RouteId;
use crate::table::RoutePlan;
use crate::tally::Shard;
use crate::upstream::Backend;
use crate::upstream::Wish;

/// Picks of an endpoint that may not have failed before, where no policy says.
const PICKS: u32 = 5;

pub struct Tries {
    attempts: Attempts,
    pub route: RouteId,
    split: usize,
    /// The version that is asked now.
    pub version: usize,
    /// The one that the request belongs to.
    coin: usize,
    idempotent: bool,
    /// Attempts begun.
    pub count: u32,
    /// A kept connection has failed this request: the next is to be new.
    pub fresh: bool,
    failed: Vec<Location>,
    asked: Option<Rc<Backend>>,
    /// Held as long as a retry is under way.
    retrying: Option<Permit>,
}

impl Tries {
    /// `version` is the coin's.
    pub fn new(
        view: &View,
        route: &RoutePlan,
        split: usize,
        version: usize,
        idempotent: bool,
        head: &Head<'_>,
    ) -> Tries {
        let plan = &view.table.splits[split];
        let policy = route.retry.as_ref();
        let covered = policy.is_some_and(|policy| policy.covers(head));
        let canary = plan.versions[version].role == Role::Canary;
        let shield = (plan.shield.is_some() && canary && idempotent)
            .then_some(Instead::Shield { version: plan.primary });
        let named = || policy.filter(|_| covered)?.then.map(|version| Instead::Policy { version });
        let instead = shield.or_else(named).filter(|instead| instead.version() != version);
        Tries {
            attempts: Attempts::new(covered, instead),
            route: route.id,
            split,
            version,
            coin: version,
            idempotent,
            count: 0,
            fresh: false,
            failed: Vec::new(),
            asked: None,
            retrying: None,
        }
    }

    pub fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    /// How much of a request's body is to be kept, so that it can be sent again.
    pub fn body_kept(&self, view: &View) -> usize {
        let policy = self.policy(view).map_or(0, |policy| policy.max_body);
        let shield = view.table.splits[self.split].shield.as_ref().filter(|_| self.attempts.is_shielded());
        policy.max(shield.map_or(0, |shield| shield.max_body))
    }

    /// Where none of the version's endpoints is well, another version answers that
    /// has one. Nothing was sent, so every method may; the version has failed.
    fn fall_back(&mut self, flight: &Flight) {
        let view = &flight.view;
        let (plan, split) = (&view.table.splits[self.split], &view.splits[self.split]);
        let is_down = |version: usize| split.versions[version].picker.is_down();
        if !plan.fallback || self.version != self.coin || !is_down(self.version) {
            return;
        }
        // Who has no weight was not trusted with requests, or no longer is.
        let weights = &split.toss().generation.weights;
        let weight = |version: usize| match version == plan.primary {
            true => u32::MAX,
            false => weights.of(&plan.cell.versions[version].0),
        };
        let others = (0..plan.versions.len()).filter(|version| *version != self.version);
        let fit = others.filter(|version| weight(*version) > 0 && !is_down(*version));
        let Some(other) = fit.max_by_key(|version| (weight(*version), Reverse(*version))) else { return };
        flight.settle(Outcome::of_fault(Fault::upstream(Kind::NoHealthyUpstream)));
        flight.shard().fallback.add(1);
        self.attempts.settle_for();
        self.version = other;
        self.fresh = false;
        self.failed.clear();
    }

    /// An attempt begins: it is counted, its time runs, and the endpoint is chosen,
    /// if the version has any; rather one that has not failed this request.
    pub fn begin(&mut self, flight: &Flight) -> Option<Rc<Backend>> {
        self.fall_back(flight);
        self.asked = None;
        let before = self.count;
        self.count += 1;
        if before > 0 {
            self.shard(flight).retries.add(1);
        }
        if flight.timeouts.bounds_tries() {
            flight.lane.flights.begin_try(flight.key, &flight.timeouts);
        }
        let (view, lane) = (&flight.view, &flight.lane);
        let picker = &view.splits[self.split].versions[self.version].picker;
        let wish = Wish { hash: flight.hash, random: &|| lane.random() };
        let mut backend = picker.pick(&wish, 0)?;
        if !self.failed.is_empty() {
            let picks = self.policy(view).map_or(PICKS, |policy| policy.host_attempts);
            for pick in 1..=picks {
                if !self.failed.contains(&backend.host.location) {
                    break;
                }
                backend = picker.pick(&wish, pick)?;
            }
        }
        if picker.panics() {
            self.shard(flight).panicked.add(1);
        }
        flight.occupy(backend.begin());
        self.asked = Some(backend.clone());
        Some(backend)
    }

    /// The endpoint has answered with this status; `failed` where a gRPC status in
    /// the head says worse.
    pub fn hear(&self, flight: &Flight, status: u16, failed: bool, resigns: bool) {
        let Some(backend) = &self.asked else { return };
        let status = if failed { status.max(500) } else { status };
        backend.host.learn(flight.lane.index, Lesson::Answered(status));
        if resigns {
            backend.host.resign();
        }
    }

    /// What a fault says of the endpoint; a kept connection that has ended says
    /// nothing, and neither does a bound of ours.
    fn learn(&self, flight: &Flight, fault: Fault) {
        let Some(backend) = self.asked.as_ref().filter(|_| fault.at == At::Upstream) else { return };
        let lesson = match fault.kind {
            Kind::ConnectFailure | Kind::Handshake | Kind::Reset | Kind::Refused | Kind::Garbage => {
                Lesson::Unreached
            }
            Kind::ConnectTimeout
            | Kind::Timeout
            | Kind::TryTimeout
            | Kind::IdleTimeout
            | Kind::MaxDuration => Lesson::Late,
            _ => return,
        };
        backend.host.learn(flight.lane.index, lesson);
    }

    /// Must the fields of an answer of this status be looked at?
    pub fn looks_into(&self, view: &View, status: u16) -> bool {
        view.table.route(self.route).counting.is_some()
            || self.policy(view).is_some_and(|policy| policy.looks_into(status))
    }

    /// What an answer's head means for another attempt, and for its count.
    pub fn signs(&self, view: &View, status: u16, fields: Fields<'_>) -> Signs {
        let counting = view.table.route(self.route).counting.as_ref();
        let counts = counting.and_then(|counting| counting.of_head(status, fields));
        let signs = match self.policy(view) {
            Some(policy) => policy.signs(status, fields),
            None => Signs::of_status(status),
        };
        Signs { counts, ..signs }
    }

    /// Counts how the attempt has ended, decides what follows, and settles the
    /// coin's version as failed where another is to answer.
    pub fn next(&mut self, flight: &Flight, ended: &Ended, can_resend: bool) -> Next {
        let view = &flight.view;
        if let Ended::Failed(fault) = ended {
            self.learn(flight, *fault);
        }
        self.shard(flight).attempt(ended.result());
        self.retrying = None;
        let policy = view.table.route(self.route).retry.as_ref();
        let retried = self.attempts.has_retried();
        let (split, version, idempotent) = (self.split, self.version, self.idempotent);
        let mut stand = Stand { flight, split, version, idempotent, can_resend, claimed: None };
        let next = self.attempts.next(policy, ended, &mut stand);
        self.retrying = stand.claimed;
        let shard = self.shard(flight);
        match next {
            Next::Pass(Stop::Content) if retried => shard.retry_success.add(1),
            Next::Pass(Stop::Exhausted) => shard.retry_exhausted.add(1),
            Next::Pass(Stop::NoRoom) => shard.retry_overflow.add(1),
            Next::Pass(Stop::Content | Stop::Gone) => {}
            Next::Again { after_us } => {
                self.fresh = matches!(ended, Ended::Failed(Fault { kind: Kind::Unsent | Kind::Stale, .. }));
                self.failed.extend(self.asked.take().map(|backend| backend.host.location.clone()));
                if after_us > 0 {
                    flight.lane.flights.nap(flight.key, clock::now_us() + after_us);
                }
            }
            Next::Instead(instead) => self.hand_over(flight, ended, instead),
        }
        next
    }

    /// The version has failed, whatever the other makes of it. The other gets as
    /// much time as for any request: this one's was not cut short for it, so both
    /// are judged by one measure.
    fn hand_over(&mut self, flight: &Flight, ended: &Ended, instead: Instead) {
        flight.settle(match ended {
            Ended::Failed(fault) => Outcome::of_fault(*fault),
            Ended::Answered(signs) => Outcome::of_code(signs.status).failed().counted(signs.counts),
        });
        flight.shard().shielded.add(1);
        flight.lane.flights.restart(flight.key, &flight.timeouts);
        self.version = instead.version();
        self.fresh = false;
        self.failed.clear();
    }

    /// The policy that speaks of this request.
    fn policy<'v>(&self, view: &'v View) -> Option<&'v Plan> {
        view.table.route(self.route).retry.as_ref().filter(|_| self.attempts.is_covered())
    }

    /// The counters of the version that is asked now.
    pub fn shard<'f>(&self, flight: &'f Flight) -> &'f Shard {
        flight.shard_of(&flight.view.table.splits[self.split].versions[self.version])
    }
}

/// What there is for another attempt.
struct Stand<'a> {
    flight: &'a Flight,
    split: usize,
    version: usize,
    idempotent: bool,
    can_resend: bool,
    claimed: Option<Permit>,
}

impl Means for Stand<'_> {
    fn can_resend(&self) -> bool {
        self.can_resend
    }

    fn is_idempotent(&self) -> bool {
        self.idempotent
    }

    fn endpoints(&self) -> usize {
        self.flight.view.splits[self.split].versions[self.version].picker.len()
    }

    fn random(&self) -> u64 {
        self.flight.lane.random()
    }

    fn claim(&mut self) -> bool {
        self.claim_of(self.version)
    }

    fn spend(&mut self, instead: Instead) -> bool {
        match instead {
            Instead::Shield { .. } => self.flight.view.splits[self.split].budget.spend(),
            Instead::Policy { version } => self.claim_of(version),
        }
    }
}

impl Stand<'_> {
    fn claim_of(&mut self, version: usize) -> bool {
        let plan = &self.flight.view.table.splits[self.split].versions[version];
        self.claimed = plan.rules.breaker.take_retry(|| plan.in_flight()).ok();
        self.claimed.is_some()
    }
}
