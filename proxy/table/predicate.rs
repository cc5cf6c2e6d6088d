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
}

struct Question {
    on: Subject,
    value: Pattern,
    invert: bool,
}

enum Subject {
    Header(HeaderName),
    Query(String),
    Cookie(String),
}

impl Conditions {
    pub fn new(wanted: &Match) -> Result<Conditions, String> {
        let questions = wanted.predicates.iter().map(Question::new).collect::<Result<_, _>>()?;
        Ok(Conditions { method: wanted.method.clone(), connect: wanted.connect, questions })
    }

    pub fn hold(&self, head: &Head<'_>) -> bool {
        self.connect == (head.method() == "CONNECT")
            && self.method.as_ref().is_none_or(|method| method == head.method())
            && self.questions.iter().all(|question| question.holds(head))
    }
}

impl Question {
    fn new(predicate: &Predicate) -> Result<Question, String> {
        let name = &predicate.name;
        let on = match predicate.on {
            PredicateOn::Header => Subject::Header(
                HeaderName::try_from(name.as_str()).map_err(|_| format!("{name:?} is no header name"))?,
            ),
            PredicateOn::Query => Subject::Query(name.clone()),
            PredicateOn::Cookie => Subject::Cookie(name.clone()),
        };
        Ok(Question { on, value: Pattern::new(&predicate.value)?, invert: predicate.invert })
    }

    /// A missing field answers a question about its value with no, inverted or
    /// not; only a question about presence can be answered by absence.
    fn holds(&self, head: &Head<'_>) -> bool {
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
            None => presence && self.invert,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TextMatch;

    fn holds(fields: &[(&str, &str)], value: TextMatch, invert: bool) -> bool {
        let mut request = http::Request::builder().uri("/").header("host", "a");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let parts = request.body(()).unwrap().into_parts().0;
        let predicate = Predicate { on: PredicateOn::Header, name: "x-h".into(), value, invert };
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
}
