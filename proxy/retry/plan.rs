//! A retry policy compiled: which ends of an attempt are worth another, and when
//! that may be.

use http::header::HeaderName;

use crate::clock;
use crate::fault::Kind;
use crate::head::Fields;
use crate::head::Head;
use crate::inquiry::Question;
use crate::inquiry::name_of;
use crate::model::Predicate;
use crate::model::ResetFormat;
use crate::model::Retry;
use crate::model::RetryOn;
use crate::outcome::Verdict;
use crate::rewrite;

const RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

pub struct Plan {
    on: Vec<RetryOn>,
    statuses: Vec<u16>,
    headers: Vec<Question>,
    request_headers: Vec<Question>,
    pub retries: u32,
    base_us: u64,
    max_us: u64,
    pub host_attempts: u32,
    pub max_body: usize,
    resets: Vec<(HeaderName, ResetFormat)>,
    longest_us: u64,
    /// The version to ask in the end, by its place in the split.
    pub then: Option<usize>,
}

/// What an answer's head says that bears on another attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    pub status: u16,
    /// The policy wants another attempt.
    pub wanted: bool,
    /// When the answer says it is worth while.
    pub wait_us: Option<u64>,
    /// How it counts, where the route's rules say so.
    pub counts: Option<Verdict>,
}

impl Signs {
    /// Where no policy looks at more than the status.
    pub fn of_status(status: u16) -> Signs {
        Signs { status, ..Signs::default() }
    }
}

impl Plan {
    /// `then` is the place of the version of that name.
    pub fn new(retry: &Retry, then: Option<usize>) -> Result<Plan, String> {
        let questions = |list: &[Predicate]| list.iter().map(Question::new).collect::<Result<Vec<_>, _>>();
        let resets = retry.rate_limited.iter().flat_map(|limited| &limited.headers);
        let resets = resets.map(|header| Ok::<_, String>((name_of(&header.name)?, header.format)));
        Ok(Plan {
            on: retry.on.clone(),
            statuses: retry.statuses.clone(),
            headers: questions(&retry.headers)?,
            request_headers: questions(&retry.request_headers)?,
            retries: retry.retries,
            base_us: clock::us(retry.backoff).max(1),
            max_us: clock::us(retry.max_backoff).max(1),
            host_attempts: retry.host_attempts,
            max_body: retry.max_body,
            resets: resets.collect::<Result<_, _>>()?,
            longest_us: retry.rate_limited.as_ref().map_or(0, |limited| clock::us(limited.max)),
            then,
        })
    }

    /// Does the policy speak of this request at all?
    pub fn covers(&self, head: &Head<'_>) -> bool {
        self.request_headers.is_empty()
            || self.request_headers.iter().any(|question| question.holds(head.all_fields()))
    }

    /// Must the fields of an answer of this status be looked at? If not, the
    /// status says it all: nothing is wanted.
    pub fn looks_into(&self, status: u16) -> bool {
        let of_fields = |on: &RetryOn| *on == RetryOn::RetriableHeaders || grpc_code(*on).is_some();
        self.wants_status(status) || self.on.iter().any(of_fields) || self.has(RetryOn::EnvoyRatelimited)
    }

    /// What the head of an answer means for another attempt.
    pub fn signs(&self, status: u16, fields: Fields<'_>) -> Signs {
        let has = |name: &HeaderName| fields.values(name).next().is_some();
        let grpc = || number(fields.values(&GRPC_STATUS).next()?);
        let wanted = if has(&rewrite::OVERLOADED) {
            false
        } else if has(&RATE_LIMITED) {
            self.has(RetryOn::EnvoyRatelimited)
        } else {
            self.wants_status(status)
                || (self.has(RetryOn::RetriableHeaders)
                    && self.headers.iter().any(|question| question.holds(fields)))
                || grpc().is_some_and(|code| self.on.iter().any(|on| grpc_code(*on) == Some(code)))
        };
        Signs { status, wanted, wait_us: if wanted { self.wait_us(fields) } else { None }, counts: None }
    }

    /// Is an attempt that brought no answer worth another?
    pub fn wants_after(&self, kind: Kind) -> bool {
        let never =
            [Kind::Timeout, Kind::IdleTimeout, Kind::MaxDuration, Kind::Overflow, Kind::NoHealthyUpstream];
        let unreached = matches!(kind, Kind::ConnectFailure | Kind::ConnectTimeout | Kind::Handshake);
        let unsent = unreached || kind == Kind::Unsent;
        !never.contains(&kind)
            && self.on.iter().any(|on| match on {
                RetryOn::Status5xx | RetryOn::GatewayError | RetryOn::Reset => true,
                RetryOn::ResetBeforeRequest => unsent,
                RetryOn::ConnectFailure => unreached,
                RetryOn::RefusedStream => kind == Kind::Refused,
                _ => false,
            })
    }

    /// Fully jittered: any time up to a bound that doubles with each retry.
    pub fn backoff_us(&self, retry: u32, signs: Option<&Signs>, random: u64) -> u64 {
        if let Some(wait_us) = signs.and_then(|signs| signs.wait_us) {
            // Not everybody at once when the limit is lifted.
            return wait_us + random % (wait_us / 2).max(1);
        }
        let bound_us = self.base_us.saturating_mul(1 << retry.min(32)).min(self.max_us);
        random % bound_us
    }

    fn has(&self, on: RetryOn) -> bool {
        self.on.contains(&on)
    }

    fn wants_status(&self, status: u16) -> bool {
        self.on.iter().any(|on| match on {
            RetryOn::Status5xx => status >= 500,
            RetryOn::GatewayError => matches!(status, 502..=504),
            RetryOn::Retriable4xx => status == 409,
            RetryOn::RetriableStatusCodes => self.statuses.contains(&status),
            _ => false,
        })
    }

    fn wait_us(&self, fields: Fields<'_>) -> Option<u64> {
        let wait_us = self.resets.iter().find_map(|(name, format)| {
            let said = u64::from(number(fields.values(name).next()?)?);
            let seconds = match format {
                ResetFormat::Seconds => said,
                ResetFormat::Unix => said.checked_sub(clock::unix_seconds())?,
            };
            Some(seconds * 1_000_000)
        })?;
        (1..=self.longest_us).contains(&wait_us).then_some(wait_us)
    }
}

fn grpc_code(on: RetryOn) -> Option<u32> {
    match on {
        RetryOn::Cancelled => Some(1),
        RetryOn::DeadlineExceeded => Some(4),
        RetryOn::ResourceExhausted => Some(8),
        RetryOn::Internal => Some(13),
        RetryOn::Unavailable => Some(14),
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::model::PredicateOn;
    use crate::model::RateLimited;
    use crate::model::ResetHeader;
    use crate::model::TextMatch;

    fn plan(on: &[RetryOn], change: impl FnOnce(&mut Retry)) -> Plan {
        let mut retry = Retry::new(on.to_vec());
        change(&mut retry);
        Plan::new(&retry, None).unwrap()
    }

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn wanted(plan: &Plan, status: u16, pairs: &[(&'static str, &'static str)]) -> bool {
        let signs = plan.signs(status, Fields::Map(&fields(pairs)));
        assert!(!signs.wanted || plan.looks_into(status), "what is wanted is looked into");
        signs.wanted
    }

    #[test]
    fn statuses_are_wanted_by_the_words_that_name_them() {
        let by = |on, wants: &[u16]| {
            let plan = plan(&[on], |retry| retry.statuses = vec![418, 200]);
            for status in [200, 204, 409, 418, 429, 499, 500, 501, 502, 503, 504, 505, 599] {
                assert_eq!(wanted(&plan, status, &[]), wants.contains(&status), "{on:?} {status}");
            }
        };
        by(RetryOn::Status5xx, &[500, 501, 502, 503, 504, 505, 599]);
        by(RetryOn::GatewayError, &[502, 503, 504]);
        by(RetryOn::Retriable4xx, &[409]);
        by(RetryOn::RetriableStatusCodes, &[418, 200]);
        for on in [RetryOn::Reset, RetryOn::ConnectFailure, RetryOn::RefusedStream, RetryOn::Unavailable] {
            by(on, &[]);
        }
    }

    #[test]
    fn the_lack_of_an_answer_is_wanted_by_the_words_that_name_it() {
        let kinds = [
            (Kind::ConnectFailure, "5xx gateway-error reset reset-before-request connect-failure"),
            (Kind::ConnectTimeout, "5xx gateway-error reset reset-before-request connect-failure"),
            (Kind::Unsent, "5xx gateway-error reset reset-before-request"),
            (Kind::Stale, "5xx gateway-error reset"),
            (Kind::Reset, "5xx gateway-error reset"),
            (Kind::Refused, "5xx gateway-error reset refused-stream"),
            (Kind::TryTimeout, "5xx gateway-error reset"),
            (Kind::Garbage, "5xx gateway-error reset"),
            (Kind::Timeout, ""),
            (Kind::IdleTimeout, ""),
            (Kind::Overflow, ""),
            (Kind::NoHealthyUpstream, ""),
        ];
        for (kind, words) in kinds {
            for (word, on) in RetryOn::ALL {
                let wants = plan(&[on], |_| {}).wants_after(kind);
                assert_eq!(wants, words.split(' ').any(|other| other == word), "{kind:?} {word}");
            }
        }
    }

    #[test]
    fn grpc_statuses_are_heard_in_the_head() {
        let plan = plan(&[RetryOn::Unavailable, RetryOn::Cancelled], |_| {});
        assert!(wanted(&plan, 200, &[("grpc-status", "14")]) && wanted(&plan, 200, &[("grpc-status", "1")]));
        for status in ["0", "4", "8", "13", "x", ""] {
            assert!(!wanted(&plan, 200, &[("grpc-status", status)]), "{status}");
        }
    }

    #[test]
    fn a_rate_limited_answer_is_retried_only_where_asked_and_an_overloaded_one_never() {
        let all = plan(&[RetryOn::Status5xx], |_| {});
        assert!(!wanted(&all, 503, &[("x-envoy-ratelimited", "true")]));
        assert!(!wanted(&all, 503, &[("x-envoy-overloaded", "true")]));
        let limited = plan(&[RetryOn::EnvoyRatelimited], |_| {});
        assert!(wanted(&limited, 429, &[("x-envoy-ratelimited", "true")]));
        assert!(!wanted(&limited, 429, &[]));
    }

    #[test]
    fn headers_are_asked_as_in_routes() {
        let asked = |value, invert| Predicate {
            on: PredicateOn::Header,
            name: "x-again".into(),
            value,
            invert,
            missing_as_empty: false,
        };
        let with = |predicate| plan(&[RetryOn::RetriableHeaders], |retry| retry.headers = vec![predicate]);
        let exact = with(asked(TextMatch::Exact("yes".into()), false));
        assert!(wanted(&exact, 200, &[("x-again", "yes")]));
        assert!(!wanted(&exact, 200, &[("x-again", "no")]) && !wanted(&exact, 500, &[]));
        let absent = with(asked(TextMatch::Present, true));
        assert!(wanted(&absent, 200, &[]) && !wanted(&absent, 200, &[("x-again", "")]));
    }

    #[test]
    fn backoff_doubles_to_its_cap_and_is_spread_over_all_of_it() {
        let plan = plan(&[], |_| {});
        let most =
            |retry| (0..2_000_000).step_by(997).map(|n| plan.backoff_us(retry, None, n)).max().unwrap();
        for (retry, bound) in [(0, 25_000), (1, 50_000), (3, 200_000), (4, 250_000), (60, 250_000)] {
            assert!((bound * 9 / 10..bound).contains(&most(retry)), "{retry}: {}", most(retry));
        }
        assert_eq!(plan.backoff_us(0, None, 25_000), 0);
    }

    #[test]
    fn an_answer_that_says_when_is_believed_within_reason() {
        let header = ResetHeader { name: "retry-after".into(), format: ResetFormat::Seconds };
        let max = std::time::Duration::from_secs(10);
        let limited = Some(RateLimited { headers: vec![header], max });
        let plan = plan(&[RetryOn::Status5xx], |retry| retry.rate_limited = limited);
        let wait = |said| plan.signs(503, Fields::Map(&fields(&[("retry-after", said)]))).wait_us;
        assert_eq!(wait("2"), Some(2_000_000));
        for said in ["11", "0", "-1", "soon", "99999999999999999999"] {
            assert_eq!(wait(said), None, "{said}");
        }
        let signs = Signs { status: 503, wanted: true, wait_us: Some(2_000_000), counts: None };
        assert!((2_000_000..3_000_000).contains(&plan.backoff_us(0, Some(&signs), u64::MAX)));
    }
}
