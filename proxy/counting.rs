//! A route's own rules of what counts as a failure, compiled. They change how an
//! answer is counted and never what the user gets: what is retried or shielded
//! has policies of its own.

use crate::head::Fields;
use crate::inquiry::Question;
use crate::model::AnswerSigns;
use crate::model::OutcomeRules;
use crate::outcome::GRPC_STATUS;
use crate::outcome::Verdict;

pub struct Counting {
    /// In the order in which they are asked.
    rules: [(Verdict, Signs); 3],
    /// A gRPC status, which may stand in trailers.
    pub asks_grpc: bool,
}

struct Signs {
    statuses: Vec<(u16, u16)>,
    grpc: Vec<u32>,
    headers: Vec<Question>,
}

impl Counting {
    pub fn new(rules: &OutcomeRules) -> Result<Counting, String> {
        let OutcomeRules { ignored, failure, success, .. } = rules;
        let rules = [
            (Verdict::Uncounted, Signs::new(ignored)?),
            (Verdict::Failure, Signs::new(failure)?),
            (Verdict::Success, Signs::new(success)?),
        ];
        let asks_grpc = rules.iter().any(|(_, signs)| !signs.grpc.is_empty());
        Ok(Counting { rules, asks_grpc })
    }

    /// What an answer's head says. A gRPC status in it is heard like one in trailers.
    pub fn of_head(&self, status: u16, fields: Fields<'_>) -> Option<Verdict> {
        let code = self.asks_grpc.then(|| fields.values(&GRPC_STATUS).next().and_then(number)).flatten();
        self.first(|signs| {
            signs.statuses.iter().any(|(from, to)| (*from..=*to).contains(&status))
                || code.is_some_and(|code| signs.grpc.contains(&code))
                || signs.headers.iter().any(|question| question.holds(fields))
        })
    }

    /// What the gRPC status in an answer's trailers says.
    pub fn of_trailers(&self, trailers: &http::HeaderMap) -> Option<Verdict> {
        let code = number(trailers.get(GRPC_STATUS)?.as_bytes())?;
        self.first(|signs| signs.grpc.contains(&code))
    }

    fn first(&self, holds: impl Fn(&Signs) -> bool) -> Option<Verdict> {
        self.rules.iter().find(|(_, signs)| holds(signs)).map(|(verdict, _)| *verdict)
    }
}

impl Signs {
    fn new(signs: &AnswerSigns) -> Result<Signs, String> {
        let headers = signs.headers.iter().map(Question::new).collect::<Result<_, _>>()?;
        Ok(Signs { statuses: signs.statuses.clone(), grpc: signs.grpc.clone(), headers })
    }
}

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::HeaderName;
    use http::HeaderValue;

    use super::*;
    use crate::model::Predicate;
    use crate::model::PredicateOn;
    use crate::model::TextMatch;

    fn fields(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    fn counting() -> Counting {
        let soft = Predicate {
            on: PredicateOn::Header,
            name: "x-error".into(),
            value: TextMatch::Present,
            invert: false,
            missing_as_empty: false,
        };
        let failure = AnswerSigns { statuses: vec![(429, 429)], grpc: vec![8], headers: vec![soft] };
        let ignored = AnswerSigns { statuses: vec![(503, 504)], ..AnswerSigns::default() };
        let success = AnswerSigns { statuses: vec![(500, 599)], grpc: vec![12], ..AnswerSigns::default() };
        let rules = OutcomeRules { ignored, failure, success, slower_than: None };
        Counting::new(&rules).unwrap()
    }

    #[test]
    fn what_is_ignored_comes_before_failures_and_these_before_successes() {
        let counting = counting();
        let of = |status, pairs: &[_]| counting.of_head(status, Fields::Map(&fields(pairs)));
        assert_eq!(of(429, &[]), Some(Verdict::Failure));
        assert_eq!(of(200, &[("x-error", "soft")]), Some(Verdict::Failure));
        assert_eq!(of(503, &[("x-error", "soft")]), Some(Verdict::Uncounted));
        assert_eq!(of(501, &[]), Some(Verdict::Success));
        assert_eq!(of(500, &[("x-error", "")]), Some(Verdict::Failure));
        assert_eq!(of(200, &[]), None);
        assert_eq!(of(404, &[]), None);
    }

    #[test]
    fn grpc_statuses_are_heard_in_head_and_trailers() {
        let counting = counting();
        assert_eq!(
            counting.of_head(200, Fields::Map(&fields(&[("grpc-status", "8")]))),
            Some(Verdict::Failure)
        );
        assert_eq!(counting.of_trailers(&fields(&[("grpc-status", "12")])), Some(Verdict::Success));
        assert_eq!(counting.of_trailers(&fields(&[("grpc-status", "13")])), None);
        assert_eq!(counting.of_trailers(&fields(&[("grpc-status", "x")])), None);
        assert_eq!(counting.of_trailers(&fields(&[])), None);
    }
}
