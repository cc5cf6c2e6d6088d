//! The shadow copy: sent beside the user's request, never in its way.
//!
//! Here the copy runs as a task of its own; that of a plain request goes the plain
//! way, too (`h1/copy.rs`). Its body is teed through a bounded
//! queue, its number is capped, and its answer is read and thrown away; only
//! the `shadow` counters know that it happened.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use http::HeaderMap;
use http::HeaderValue;
use http::StatusCode;
use http::request::Parts;
use http_body_util::BodyExt;

use crate::attempt::Answer;
use crate::attempt::attempt;
use crate::body::RequestBody;
use crate::body::Tee;
use crate::clock;
use crate::counting::Counting;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::head::Fields;
use crate::lane::Lane;
use crate::lane::View;
use crate::outcome;
use crate::outcome::Outcome;
use crate::outcome::Verdict;
use crate::pair::Copied;
use crate::pair::Pair;
use crate::reading::Way;
use crate::retry;
use crate::retry::MAX_TRIES;
use crate::rewrite;
use crate::split::Choice;
use crate::split::point_of;
use crate::table::RouteId;
use crate::table::SplitPlan;
use crate::table::VersionPlan;
use crate::tally::Shard;
use crate::upstream::Wish;

/// A copy that takes longer is cut off.
pub const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// A copy that was decided on and waits for the request's head.
pub struct Copy {
    pub version: usize,
    /// With the user's request, where that is the primary's.
    pub pair: Option<Rc<Pair>>,
    tee: Option<Rc<Tee>>,
    /// Of our own load.
    load: bool,
    running: Running,
}

/// Holds a place among the copies under way.
struct Running(Rc<Cell<usize>>);

/// Decides whether this request is copied. `None` also where a bound forbids it,
/// which is counted.
pub fn plan(
    lane: &Lane,
    view: &View,
    split: usize,
    choice: &Choice,
    has_body: Option<Option<u64>>,
) -> Option<Copy> {
    let version = choice.version;
    let SplitPlan { mirror, versions, cell, primary, .. } = &view.table.splits[split];
    let (target, mirror) = mirror.as_ref()?;
    let parts = if mirror.on_trial {
        if version != *primary || choice.way != Way::Tossed {
            return None;
        }
        view.splits[split].copied()
    } else {
        mirror.parts
    };
    if *target == version || point_of(lane.random()) >= parts {
        return None;
    }
    let shard = versions[version].asked(choice.load).shard(lane.index);
    let copies = &view.splits[split].copies;
    if copies.get() >= mirror.max_in_flight {
        shard.mirror_dropped.add(1);
        return None;
    }
    shard.mirrored.add(1);
    copies.set(copies.get() + 1);
    let tee = has_body.map(|length| Tee::new(mirror.max_body, length));
    let pair = (version == *primary).then(|| Rc::new(Pair::new(cell.clone(), lane.index)));
    Some(Copy { version: *target, pair, tee, load: choice.load, running: Running(copies.clone()) })
}

impl Copy {
    /// This worker's counters of the version that is asked.
    pub fn shard<'p>(&self, plan: &'p VersionPlan, lane: &Lane) -> &'p Shard {
        plan.copied(self.load).shard(lane.index)
    }

    pub fn tee(&self) -> Option<Rc<Tee>> {
        self.tee.clone()
    }

    /// Tells the pair how the copy has ended; `late_us` where time was up, perhaps
    /// after its head had come.
    pub fn pair_off(&self, verdict: Verdict, late_us: Option<u64>, has_head: bool) {
        let Some(pair) = &self.pair else { return };
        pair.copy(match late_us {
            Some(_) if has_head => Copied::Unknown,
            Some(us) => Copied::Silent { us },
            None => Copied::Answered(verdict),
        });
    }

    /// Sends the copy on its way and returns at once.
    pub fn spawn(self, lane: &Rc<Lane>, view: &Rc<View>, split: usize, route: RouteId, mut parts: Parts) {
        parts.headers.insert(rewrite::MIRROR, HeaderValue::from_static("1"));
        let (lane, view) = (lane.clone(), view.clone());
        tokio::task::spawn_local(async move { self.run(&lane, &view, split, route, parts).await });
    }

    /// Asks on where the copy was surely not taken.
    async fn answer(&self, lane: &Lane, view: &View, split: usize, parts: &Parts) -> Result<Answer, Fault> {
        let plan = &view.table.splits[split].versions[self.version];
        let version = &view.splits[split].versions[self.version];
        let mut fault = Fault::upstream(Kind::NoHealthyUpstream);
        for tried in 0..MAX_TRIES {
            let wish = Wish { hash: None, random: &|| lane.random() };
            let Some(backend) = version.picker.pick(&wish, tried) else { break };
            let _busy = backend.begin();
            let fresh = tried > 0;
            let body = self.tee.clone().map_or(RequestBody::Empty, RequestBody::Copy);
            match attempt(&backend, plan, fresh, parts.clone(), body).await {
                Err(failed) if self.may_repeat(failed.kind, parts) => fault = failed,
                answered => return answered,
            }
        }
        Err(fault)
    }

    fn may_repeat(&self, kind: Kind, parts: &Parts) -> bool {
        match kind {
            Kind::ConnectFailure | Kind::ConnectTimeout | Kind::Handshake | Kind::Unsent => true,
            Kind::Stale | Kind::Refused => self.tee.is_none() && retry::is_idempotent(parts.method.as_str()),
            _ => false,
        }
    }

    async fn run(self, lane: &Lane, view: &View, split: usize, route: RouteId, parts: Parts) {
        let plan = &view.table.splits[split].versions[self.version];
        let shard = self.shard(plan, lane);
        let started_us = clock::now_us();
        shard.begin();
        let counting = view.table.route(route).counting.as_deref();
        let has_head = Cell::new(false);
        let exchange = async {
            let answer = self.answer(lane, view, split, &parts).await?;
            has_head.set(true);
            let (head, rest) = answer.response.into_parts();
            let mut outcome = outcome_of(head.status, &head.headers, counting);
            let mut rest = pin!(rest);
            while let Some(frame) = rest.frame().await {
                let frame = frame.map_err(|error| Fault::of_exchange(&error))?;
                shard.bytes_out.add(frame.data_ref().map_or(0, |data| data.len() as u64));
                if let Some(trailers) = frame.trailers_ref() {
                    outcome = outcome_at_end(outcome, trailers, counting);
                }
            }
            answer.lease.give_back();
            Ok(outcome)
        };
        let ended = tokio::time::timeout(TIMEOUT, exchange).await;
        // A client that is still uploading keeps its copy waiting.
        let cut_off =
            self.tee.as_ref().is_some_and(|tee| tee.is_abandoned() || (ended.is_err() && !tee.has_ended()));
        let mut outcome = match &ended {
            Ok(Ok(outcome)) => *outcome,
            Ok(Err(fault)) => Outcome::of_fault(*fault),
            Err(_) => Outcome::of_fault(Fault::upstream(Kind::Timeout)),
        };
        if cut_off && outcome.verdict == Verdict::Failure {
            // Broken off on our side of it; the shadow is not to blame.
            shard.mirror_dropped.add(1);
            outcome = outcome.uncounted();
        }
        let age_us = clock::now_us() - started_us;
        shard.end(outcome, age_us);
        match &self.pair {
            Some(pair) if cut_off => pair.copy(Copied::Unknown),
            _ => self.pair_off(outcome.verdict, ended.is_err().then_some(age_us), has_head.get()),
        }
        drop(self.running);
    }
}

/// What a copy's head says of it, by the rules of the user's request.
fn outcome_of(status: StatusCode, fields: &HeaderMap, counting: Option<&Counting>) -> Outcome {
    let outcome = match outcome::grpc_failure(fields) {
        Some(true) => Outcome::of_status(status).failed(),
        _ => Outcome::of_status(status),
    };
    outcome.counted(counting.and_then(|counting| counting.of_head(status.as_u16(), Fields::Map(fields))))
}

fn outcome_at_end(outcome: Outcome, trailers: &HeaderMap, counting: Option<&Counting>) -> Outcome {
    let outcome = if outcome::grpc_failure(trailers) == Some(true) { outcome.failed() } else { outcome };
    outcome.counted(counting.and_then(|counting| counting.of_trailers(trailers)))
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}
