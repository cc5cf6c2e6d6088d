//! Compiled questions about headers, query parameters and cookies.

use http::header::HeaderName;

use crate::head::Head;
use crate::model::Match;
use crate::model::Predicate;
use crate::model::PredicateOn;
use crate::text::Pattern;

/// Everything of a match but its path.
pub struct Conditions {
    method: Option<String>,
    connect: bool,
    questions: Vec<Question>,
    grpc: bool,
    per_million: Option<u32>,
}

pub struct Question {
    on: Subject,
    value: Pattern,
    invert: bool,
    missing_as_empty: bool,
}

enum Subject {
    Header(HeaderName),
    Query(String),
    Cookie(String),
}

impl Conditions {
    pub fn new(wanted: &Match) -> Result<Conditions, String> {
        let questions = wanted.predicates.iter().map(Question::new).collect::<Result<_, _>>()?;
        let Match { method, connect, grpc, per_million, .. } = wanted;
        Ok(Conditions {
            method: method.clone(),
            connect: *connect,
            questions,
            grpc: *grpc,
            per_million: *per_million,
        })
    }

    /// `random` is the request's one number for all routes.
    pub fn hold(&self, head: &Head<'_>, random: u64) -> bool {
        self.connect == (head.method() == "CONNECT")
            && self.method.as_ref().is_none_or(|method| method == head.method())
            && self.questions.iter().all(|question| question.holds(head))
            && (!self.grpc || head.is_grpc())
            && self.per_million.is_none_or(|share| random % 1_000_000 < u64::from(share))
    }

    pub fn is_random(&self) -> bool {
        self.per_million.is_some()
    }
}

impl Question {
    pub fn new(predicate: &Predicate) -> Result<Question, String> {
        let name = &predicate.name;
        let on = match predicate.on {
            PredicateOn::Header => Subject::Header(
                HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header name"))?,
            ),
            PredicateOn::Query => Subject::Query(name.clone()),
            PredicateOn::Cookie => Subject::Cookie(name.clone()),
        };
        let Predicate { invert, missing_as_empty, .. } = *predicate;
        Ok(Question { on, value: Pattern::new(&predicate.value)?, invert, missing_as_empty })
    }

    /// A missing field answers a question about its value with no, inverted or
    /// not; only a question about presence can be answered by absence.
    pub fn holds(&self, head: &Head<'_>) -> bool {
        let presence = matches!(self.value, Pattern::Present);
        let answer = match &self.on {
            Subject::Header(name) => {
                let mut values = head.fields(name).peekable();
                values.peek().is_some().then(|| values.any(|value| self.value.matches(value)))
            }
            Subject::Query(name) => head.parameter(name).map(|value| self.value.matches(value.as_bytes())),
            Subject::Cookie(name) => head.cookie(name).map(|value| self.value.matches(value)),
        };
        match answer {
            Some(answer) => answer != self.invert,
            None if self.missing_as_empty && !presence => self.value.matches(b"") != self.invert,
            None => presence && self.invert,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TextMatch;

    fn holds(fields: &[(&str, &str)], value: TextMatch, invert: bool) -> bool {
        asked(fields, value, invert, false)
    }

    fn asked(fields: &[(&str, &str)], value: TextMatch, invert: bool, missing_as_empty: bool) -> bool {
        let mut request = http::Request::builder().uri("/").header("host", "a");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let (on, name) = (PredicateOn::Header, "x-h".to_owned());
        let predicate = Predicate { on, name, value, invert, missing_as_empty };
        Question::new(&predicate).unwrap().holds(&Head::of(&parts).unwrap())
    }

    #[test]
    fn repeated_headers_are_asked_one_by_one() {
        let two = [("x-h", "a"), ("x-h", "b")];
        assert!(holds(&two, TextMatch::Exact("b".into()), false));
        assert!(!holds(&two, TextMatch::Exact("a,b".into()), false));
        assert!(!holds(&two, TextMatch::Exact("b".into()), true));
    }

    #[test]
    fn a_missing_header_fails_a_value_match_both_ways() {
        assert!(!holds(&[], TextMatch::Exact("b".into()), false));
        assert!(!holds(&[], TextMatch::Exact("b".into()), true));
        assert!(holds(&[], TextMatch::Present, true));
        assert!(!holds(&[("x-h", "")], TextMatch::Present, true));
    }

    #[test]
    fn a_missing_header_can_be_taken_for_an_empty_one() {
        assert!(asked(&[], TextMatch::Exact("b".into()), true, true));
        assert!(asked(&[], TextMatch::Exact(String::new()), false, true));
        assert!(!asked(&[], TextMatch::Exact("b".into()), false, true));
        assert!(!asked(&[], TextMatch::Present, false, true));
    }

    #[test]
    fn numbers_parts_and_case() {
        let range = TextMatch::Range { from: -5, to: 10 };
        for (value, fits) in
            [("-5", true), ("9", true), ("10", false), ("", false), ("1.5", false), ("+3", true)]
        {
            assert_eq!(holds(&[("x-h", value)], range.clone(), false), fits, "{value}");
        }
        let part = TextMatch::Contains("bc".into());
        assert!(holds(&[("x-h", "abcd")], part.clone(), false));
        assert!(!holds(&[("x-h", "aBCd")], part.clone(), false));
        assert!(holds(&[("x-h", "aBCd")], TextMatch::IgnoreCase(Box::new(part)), false));
        let exact = TextMatch::IgnoreCase(Box::new(TextMatch::Exact("a.c".into())));
        assert!(holds(&[("x-h", "A.C")], exact.clone(), false));
        assert!(!holds(&[("x-h", "abc")], exact.clone(), false));
        assert!(!holds(&[("x-h", "xa.c")], exact, false));
    }
}
