//! The attempts of one request, and what follows when one has ended.
//!
//! The order: what an endpoint surely did not take is repeated at once, by
//! serin's own motion; then comes the policy, on the same version; then another
//! version in its place, which may do all of this again; then whatever there is
//! goes to the client.

use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::outcome::Verdict;
use crate::reading::Attempt;
use crate::retry::MAX_TRIES;
use crate::retry::Plan;
use crate::retry::Signs;

/// How an attempt has ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// With the head of an answer.
    Answered(Signs),
    Failed(Fault),
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Give the client what there is.
    Pass(Stop),
    /// Ask the same version again, after so long.
    Again { after_us: u64 },
    /// Ask another version in its place.
    Instead(Instead),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Nobody wanted one.
    Content,
    /// The policy allows no more.
    Exhausted,
    /// Too many retries are under way already.
    NoRoom,
    /// The request cannot be sent again: its body is gone.
    Gone,
}

/// Who steps in for the version that failed, and by whose word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// The primary, for a canary and a repeatable request.
    Shield { version: usize },
    /// The version that the policy names.
    Policy { version: usize },
}

/// What can be done for another attempt; asked only where one is wanted.
pub trait Means {
    /// The request can be sent from its beginning.
    fn can_resend(&self) -> bool;
    fn is_idempotent(&self) -> bool;
    fn endpoints(&self) -> usize;
    fn random(&self) -> u64;
    /// Takes one of the retries that the version may have under way.
    fn claim(&mut self) -> bool;
    /// May the other version be asked, as far as its budget goes? Spends it.
    fn spend(&mut self, instead: Instead) -> bool;
}

pub struct Attempts {
    /// The policy speaks of this request.
    covered: bool,
    /// Who may still step in.
    instead: Option<Instead>,
    /// By the policy, on the present version.
    retries: u32,
    /// Endpoints of the present version that could not be reached.
    unreached: u32,
    /// Kept connections that were closed before they took the request.
    unsent: u32,
    /// A request that was surely not taken has been repeated.
    repeated: bool,
}

impl Attempts {
    pub fn new(covered: bool, instead: Option<Instead>) -> Attempts {
        Attempts { covered, instead, retries: 0, unreached: 0, unsent: 0, repeated: false }
    }

    /// Does the policy speak of this request?
    pub fn is_covered(&self) -> bool {
        self.covered
    }

    /// May the primary still step in?
    pub fn is_shielded(&self) -> bool {
        matches!(self.instead, Some(Instead::Shield { .. }))
    }

    /// Another answers already: nobody steps in for it.
    pub fn settle_for(&mut self) {
        self.instead = None;
    }

    /// Has the policy sent the request again?
    pub fn has_retried(&self) -> bool {
        self.retries > 0
    }

    pub fn next(&mut self, plan: Option<&Plan>, ended: &Ended, means: &mut impl Means) -> Next {
        let plan = plan.filter(|_| self.covered);
        let wanted = ended.is_wanted(plan);
        if !wanted && !ended.is_failure() {
            return Next::Pass(Stop::Content);
        }
        if !means.can_resend() {
            return Next::Pass(Stop::Gone);
        }
        if self.repeats(ended, means) {
            return Next::Again { after_us: 0 };
        }
        let mut stop = Stop::Content;
        if let (Some(plan), true) = (plan, wanted) {
            match self.retry(plan, ended, means) {
                Ok(after_us) => return Next::Again { after_us },
                Err(why) => stop = why,
            }
        }
        let helps = |instead: &Instead| match instead {
            Instead::Shield { .. } => ended.is_failure(),
            Instead::Policy { .. } => wanted || ended.is_failure(),
        };
        // A bound on the whole request holds whoever answers it.
        match self.instead.filter(|_| !ended.is_final()).filter(helps) {
            Some(instead) if means.spend(instead) => {
                *self = Attempts::new(self.covered, None);
                Next::Instead(instead)
            }
            _ => Next::Pass(stop),
        }
    }

    /// What the endpoint did not take, or what may be taken twice.
    fn repeats(&mut self, ended: &Ended, means: &impl Means) -> bool {
        let Ended::Failed(fault) = ended else { return false };
        match fault.kind {
            Kind::ConnectFailure | Kind::ConnectTimeout | Kind::Handshake => {
                self.unreached += 1;
                (self.unreached as usize) < means.endpoints().min(MAX_TRIES as usize)
            }
            // Such a connection is closed. One that says goodbye leaves a request
            // behind first and is seen to be closed by the next.
            Kind::Unsent => {
                self.unsent += 1;
                self.unsent < MAX_TRIES
            }
            Kind::Refused => !std::mem::replace(&mut self.repeated, true),
            Kind::Stale => means.is_idempotent() && !std::mem::replace(&mut self.repeated, true),
            _ => false,
        }
    }

    fn retry(&mut self, plan: &Plan, ended: &Ended, means: &mut impl Means) -> Result<u64, Stop> {
        if self.retries >= plan.retries {
            return Err(Stop::Exhausted);
        }
        if !means.claim() {
            return Err(Stop::NoRoom);
        }
        let signs = match ended {
            Ended::Answered(signs) => Some(signs),
            Ended::Failed(_) => None,
        };
        let after_us = plan.backoff_us(self.retries, signs, means.random());
        self.retries += 1;
        Ok(after_us)
    }
}

impl Instead {
    pub fn version(self) -> usize {
        match self {
            Instead::Shield { version } | Instead::Policy { version } => version,
        }
    }
}

impl Ended {
    /// As what the attempt is counted.
    pub fn result(&self) -> Attempt {
        match self {
            Ended::Answered(signs) if signs.status < 500 => Attempt::Answered,
            Ended::Answered(_) => Attempt::ServerError,
            Ended::Failed(fault) => match fault.kind {
                Kind::ConnectFailure | Kind::ConnectTimeout | Kind::Handshake => Attempt::ConnectFailure,
                Kind::Reset | Kind::Unsent | Kind::Stale => Attempt::Reset,
                Kind::Refused => Attempt::Refused,
                Kind::TryTimeout => Attempt::TryTimeout,
                Kind::Timeout | Kind::IdleTimeout | Kind::MaxDuration => Attempt::Timeout,
                Kind::Overflow => Attempt::Overflow,
                _ => Attempt::Other,
            },
        }
    }

    /// How it counts, where the route's rules say so.
    pub fn counts(&self) -> Option<Verdict> {
        match self {
            Ended::Answered(signs) => signs.counts,
            Ended::Failed(_) => None,
        }
    }

    /// An endpoint may have acted on it.
    pub fn was_taken(&self) -> bool {
        match self {
            Ended::Answered(_) => true,
            Ended::Failed(fault) => !matches!(
                fault.kind,
                Kind::ConnectFailure
                    | Kind::ConnectTimeout
                    | Kind::Handshake
                    | Kind::Unsent
                    | Kind::Stale
                    | Kind::Refused
            ),
        }
    }

    /// Has the version failed, policy or not?
    pub fn is_failure(&self) -> bool {
        match self {
            Ended::Answered(signs) => signs.status >= 500,
            Ended::Failed(fault) => fault.at == At::Upstream,
        }
    }

    fn is_wanted(&self, plan: Option<&Plan>) -> bool {
        plan.is_some_and(|plan| match self {
            Ended::Answered(signs) => signs.wanted,
            Ended::Failed(fault) => fault.at == At::Upstream && plan.wants_after(fault.kind),
        })
    }

    fn is_final(&self) -> bool {
        matches!(self, Ended::Failed(Fault { kind: Kind::MaxDuration, .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Retry;
    use crate::model::RetryOn;

    struct World {
        resend: bool,
        idempotent: bool,
        room: u32,
        shield: u32,
    }

    const FINE: World = World { resend: true, idempotent: true, room: 100, shield: 100 };

    impl Means for World {
        fn can_resend(&self) -> bool {
            self.resend
        }
        fn is_idempotent(&self) -> bool {
            self.idempotent
        }
        fn endpoints(&self) -> usize {
            2
        }
        fn random(&self) -> u64 {
            7
        }
        fn claim(&mut self) -> bool {
            let room = self.room > 0;
            self.room = self.room.saturating_sub(1);
            room
        }
        fn spend(&mut self, _: Instead) -> bool {
            let enough = self.shield > 0;
            self.shield = self.shield.saturating_sub(1);
            enough
        }
    }

    const SHIELD: Instead = Instead::Shield { version: 0 };
    const AT_ONCE: Next = Next::Again { after_us: 0 };
    const LATER: Next = Next::Again { after_us: 7 };

    fn failed(kind: Kind) -> Ended {
        Ended::Failed(Fault::upstream(kind))
    }

    fn status(status: u16) -> Ended {
        Ended::Answered(Signs { status, wanted: status == 503, wait_us: None, counts: None })
    }

    fn plan(retries: u32) -> Plan {
        Plan::new(&Retry { retries, ..Retry::new(vec![RetryOn::Status5xx]) }, None).unwrap()
    }

    /// What follows from these ends in turn.
    fn walk(plan: Option<&Plan>, instead: Option<Instead>, mut world: World, ends: &[Ended]) -> Vec<Next> {
        let mut attempts = Attempts::new(true, instead);
        ends.iter().map(|ended| attempts.next(plan, ended, &mut world)).collect()
    }

    #[test]
    fn a_good_answer_is_passed_on() {
        for plan in [None, Some(&plan(3))] {
            let next = walk(plan, Some(SHIELD), FINE, &[status(200)]);
            assert_eq!(next, [Next::Pass(Stop::Content)]);
        }
    }

    #[test]
    fn retries_on_the_same_version_come_before_the_shield_and_the_primary_gets_its_own() {
        let next = walk(Some(&plan(2)), Some(SHIELD), FINE, &[status(503); 6]);
        let expected = [LATER, LATER, Next::Instead(SHIELD), LATER, LATER, Next::Pass(Stop::Exhausted)];
        assert_eq!(next, expected);
    }

    #[test]
    fn the_shield_stands_in_without_a_policy_too_but_once() {
        let next = walk(None, Some(SHIELD), FINE, &[status(500), status(500)]);
        assert_eq!(next, [Next::Instead(SHIELD), Next::Pass(Stop::Content)]);
        let spent = World { shield: 0, ..FINE };
        assert_eq!(walk(None, Some(SHIELD), spent, &[status(500)]), [Next::Pass(Stop::Content)]);
    }

    #[test]
    fn what_the_policy_names_steps_in_for_what_it_wants() {
        let then = Instead::Policy { version: 2 };
        let wanted = Ended::Answered(Signs { status: 409, wanted: true, wait_us: None, counts: None });
        let next = walk(Some(&plan(0)), Some(then), FINE, &[wanted, status(409)]);
        assert_eq!(next, [Next::Instead(then), Next::Pass(Stop::Content)]);
        let shield = walk(Some(&plan(0)), Some(SHIELD), FINE, &[wanted]);
        assert_eq!(shield, [Next::Pass(Stop::Exhausted)], "the shield is for failures");
    }

    #[test]
    fn no_more_retries_than_there_is_room_for() {
        let next = walk(Some(&plan(5)), None, World { room: 1, ..FINE }, &[status(503), status(503)]);
        assert_eq!(next, [LATER, Next::Pass(Stop::NoRoom)]);
    }

    #[test]
    fn what_is_gone_cannot_be_sent_again() {
        let gone = World { resend: false, ..FINE };
        assert_eq!(walk(Some(&plan(5)), Some(SHIELD), gone, &[status(503)]), [Next::Pass(Stop::Gone)]);
    }

    #[test]
    fn what_was_not_taken_is_repeated_whatever_the_method() {
        let post = || World { idempotent: false, ..FINE };
        let next = walk(None, None, post(), &[failed(Kind::Refused), failed(Kind::Refused)]);
        assert_eq!(next, [AT_ONCE, Next::Pass(Stop::Content)]);
        let next = walk(None, None, post(), &[failed(Kind::Refused), failed(Kind::Unsent)]);
        assert_eq!(next, [AT_ONCE, AT_ONCE], "a connection that says goodbye is met twice");
        let next = walk(None, None, post(), &[failed(Kind::Unsent); 3]);
        assert_eq!(next, [AT_ONCE, AT_ONCE, Next::Pass(Stop::Content)]);
    }

    #[test]
    fn what_may_have_been_taken_is_repeated_only_where_twice_is_as_once() {
        let post = World { idempotent: false, ..FINE };
        assert_eq!(walk(None, None, post, &[failed(Kind::Stale)]), [Next::Pass(Stop::Content)]);
        let next = walk(None, None, FINE, &[failed(Kind::Stale), failed(Kind::Stale)]);
        assert_eq!(next, [AT_ONCE, Next::Pass(Stop::Content)]);
        assert_eq!(walk(None, None, FINE, &[failed(Kind::Reset)]), [Next::Pass(Stop::Content)]);
    }

    #[test]
    fn unreachable_endpoints_are_passed_by_at_once_and_then_the_policy_counts() {
        let next = walk(Some(&plan(1)), None, FINE, &[failed(Kind::ConnectFailure); 3]);
        assert_eq!(next, [AT_ONCE, LATER, Next::Pass(Stop::Exhausted)]);
    }

    #[test]
    fn the_end_of_all_time_is_never_retried_but_shielded() {
        for kind in [Kind::Timeout, Kind::IdleTimeout] {
            let next = walk(Some(&plan(1)), Some(SHIELD), FINE, &[failed(kind)]);
            assert_eq!(next, [Next::Instead(SHIELD)], "{kind:?}");
        }
        let next = walk(Some(&plan(1)), Some(SHIELD), FINE, &[failed(Kind::MaxDuration)]);
        assert_eq!(next, [Next::Pass(Stop::Content)]);
    }

    #[test]
    fn a_client_that_left_is_not_asked_for() {
        let gone = Ended::Failed(Fault::downstream(Kind::ClientGone));
        assert_eq!(walk(Some(&plan(1)), Some(SHIELD), FINE, &[gone]), [Next::Pass(Stop::Content)]);
    }

    #[test]
    fn requests_that_the_policy_does_not_speak_of_are_not_retried() {
        let mut attempts = Attempts::new(false, None);
        let next = attempts.next(Some(&plan(3)), &status(503), &mut { FINE });
        assert_eq!(next, Next::Pass(Stop::Content));
    }
}
