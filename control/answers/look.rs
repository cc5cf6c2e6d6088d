//! One look at three answers: at which places the canary's, or the primary's second one,
//! differs from the primary's first. Pure.
//!
//! Everything here treats the canary's answer and the primary's second one alike: what is
//! looked at, and what is left out, would be the same if the two were exchanged. The
//! comparison rests on that.

use std::collections::{BTreeMap, BTreeSet};

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE};
use serde::Serialize;
use serde_json::Value;
use serin_proxy::trio::{Answered, Trio};

use super::Settings;

/// Places that one look may tell of; further ones of the same answers are left out.
const PLACES: usize = 1_000;
/// A longer path is not followed further.
const PATH: usize = 200;
/// A longer name in an object is taken for a value.
const NAME: usize = 64;
/// Of a value so much is shown.
const SHOWN: usize = 60;

/// Of the connection, of the moment, or told by the body.
const UNSEEN: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A place that is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ignored {
    /// A path of JSON bodies, with all below it.
    Path(String),
    /// By its name in small letters.
    Header(String),
}

/// What three answers have told.
#[derive(Debug, Default, PartialEq)]
pub struct Look {
    /// Where not all three were the same.
    pub places: BTreeMap<String, Seen>,
    /// Why a part of the answers, or all, could not be compared.
    pub left_out: Option<LeftOut>,
}

/// Who differs at a place from the primary's first answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub canary: bool,
    pub again: bool,
    /// The primary's value and the canary's, where they are to be shown.
    pub example: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// One of the three has not come, or broke off.
    Unanswered,
    /// Bodies in a coding that nobody asked for.
    Encoded,
    /// Bodies of which no more is known than that they are long.
    TooLong,
}

impl LeftOut {
    pub fn name(self) -> &'static str {
        match self {
            LeftOut::Unanswered => "unanswered",
            LeftOut::Encoded => "encoded",
            LeftOut::TooLong => "too_long",
        }
    }
}

pub fn look(trio: &Trio, settings: &Settings) -> Look {
    let (Some(primary), Some(again), Some(canary)) = (&trio.primary, &trio.again, &trio.canary) else {
        return Look { left_out: Some(LeftOut::Unanswered), ..Look::default() };
    };
    let mut looking = Looking { settings, look: Look::default(), path: String::new() };
    let all = [primary, again, canary];
    looking.note("status", all.map(|answer| answer.status), |status| status.to_string());
    // An answer of another kind differs everywhere, which says nothing more.
    let kind = primary.status / 100;
    if all.iter().all(|answer| answer.status / 100 == kind) {
        looking.headers(all.map(|answer| &answer.fields));
        looking.bodies(all);
    }
    looking.look
}

struct Looking<'s> {
    settings: &'s Settings,
    look: Look,
    path: String,
}

impl Looking<'_> {
    /// Of the primary, of the primary again, of the canary.
    fn note<T: PartialEq + Clone>(&mut self, place: &str, values: [T; 3], show: impl Fn(T) -> String) {
        let [primary, again, canary] = values;
        let seen = Seen { canary: canary != primary, again: again != primary, example: None };
        let places = &mut self.look.places;
        if !(seen.canary || seen.again) || (places.len() >= PLACES && !places.contains_key(place)) {
            return;
        }
        let known = places.entry(place.to_owned()).or_default();
        if self.settings.examples && seen.canary && !known.canary {
            known.example = Some((shortened(show(primary)), shortened(show(canary))));
        }
        known.canary |= seen.canary;
        known.again |= seen.again;
    }

    fn headers(&mut self, fields: [&HeaderMap; 3]) {
        let names: BTreeSet<&str> =
            fields.iter().flat_map(|fields| fields.keys()).map(|name| name.as_str()).collect();
        for name in names {
            let ignored = |ignored: &Ignored| matches!(ignored, Ignored::Header(header) if header == name);
            if UNSEEN.contains(&name) || self.settings.ignore.iter().any(ignored) {
                continue;
            }
            let lines = fields.map(|fields| lines_of(fields, name));
            if name == SET_COOKIE.as_str() {
                self.cookies(lines);
                continue;
            }
            let place = format!("header {name}");
            self.note(&format!("{place} (presence)"), [0, 1, 2].map(|i| !lines[i].is_empty()), in_words);
            self.note(&place, lines, |lines| lines.join(", "));
        }
    }

    /// Each by its name: values are made up anew, names are not.
    fn cookies(&mut self, lines: [Vec<String>; 3]) {
        let name_of = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let names: BTreeSet<String> = lines.iter().flatten().map(|line| name_of(line)).collect();
        for name in names {
            let short = if name.len() > NAME { "*" } else { &name };
            let place = format!("header set-cookie {short}");
            let own = |i: usize| lines[i].iter().filter(|line| name_of(line) == name).collect::<Vec<_>>();
            self.note(&format!("{place} (presence)"), [0, 1, 2].map(|i| !own(i).is_empty()), in_words);
            // What a cookie holds is never shown.
            self.note(&place, [0, 1, 2].map(own), |lines| format!("{} lines", lines.len()));
        }
    }

    fn bodies(&mut self, answers: [&Answered; 3]) {
        let encoded = |answer: &&Answered| {
            let codings = lines_of(&answer.fields, CONTENT_ENCODING.as_str());
            codings.iter().any(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
        };
        if answers.iter().any(encoded) {
            self.look.left_out = Some(LeftOut::Encoded);
            return;
        }
        if answers.iter().all(|answer| answer.body.is_none()) {
            self.look.left_out = Some(LeftOut::TooLong);
            return;
        }
        let parsed = answers.map(json_of);
        if let [Some(primary), Some(again), Some(canary)] = &parsed {
            self.path = "$".to_owned();
            return self.walk([primary, again, canary].map(Some));
        }
        self.note("body (type)", [0, 1, 2].map(|i| parsed[i].is_some()), |json| {
            if json { "JSON".to_owned() } else { "not JSON".to_owned() }
        });
        self.note("body", answers.map(|answer| answer.body.as_ref()), |body| match body {
            Some(body) => format!("{} bytes", body.len()),
            None => "longer than is kept".to_owned(),
        });
    }

    fn walk(&mut self, values: [Option<&Value>; 3]) {
        let ignored = |ignored: &Ignored| matches!(ignored, Ignored::Path(path) if *path == self.path);
        if self.settings.ignore.iter().any(ignored) {
            return;
        }
        let here = self.path.len();
        match values {
            _ if here > PATH => self.leaf(values),
            [Some(Value::Object(a)), Some(Value::Object(b)), Some(Value::Object(c))] => {
                let names: BTreeSet<&String> = a.keys().chain(b.keys()).chain(c.keys()).collect();
                for name in names {
                    self.path.push_str(&step_of(name));
                    self.walk([a.get(name), b.get(name), c.get(name)]);
                    self.path.truncate(here);
                }
            }
            [Some(Value::Array(a)), Some(Value::Array(b)), Some(Value::Array(c))] => {
                self.path.push_str("[*]");
                for i in 0..a.len().max(b.len()).max(c.len()) {
                    self.walk([a.get(i), b.get(i), c.get(i)]);
                }
                self.path.truncate(here);
            }
            values => self.leaf(values),
        }
    }

    /// What a value is says something also where the value is another each time.
    fn leaf(&mut self, values: [Option<&Value>; 3]) {
        let path = self.path.clone();
        self.note(&format!("{path} (type)"), values.map(type_of), str::to_owned);
        self.note(&path, values, |value| value.map_or_else(|| "missing".to_owned(), Value::to_string));
    }
}

/// How a name continues a path. One that is made up is no place of its own.
fn step_of(name: &str) -> String {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '-';
    let digits = name.chars().filter(char::is_ascii_digit).count();
    let is_made_up = name.len() > NAME
        || (digits > 0 && digits == name.len())
        || (name.len() >= 16 && digits > 3 && name.chars().all(|c| c.is_ascii_hexdigit() || c == '-'));
    match name {
        _ if is_made_up => ".*".to_owned(),
        name if !name.is_empty() && name.chars().all(is_word) => format!(".{name}"),
        name => format!("[{name:?}]"),
    }
}

fn type_of(value: Option<&Value>) -> &'static str {
    match value {
        None => "missing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "a string",
        Some(Value::Array(_)) => "an array",
        Some(Value::Object(_)) => "an object",
    }
}

/// The body, if it says that it is JSON and is.
fn json_of(answer: &Answered) -> Option<Value> {
    let kind = answer.fields.get(CONTENT_TYPE)?.to_str().ok()?;
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = kind == "application/json" || kind.ends_with("+json");
    let body = answer.body.as_ref().filter(|_| is_json)?;
    serde_json::from_slice(body).ok()
}

fn lines_of(fields: &HeaderMap, name: &str) -> Vec<String> {
    fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

fn in_words(present: bool) -> String {
    if present { "there".to_owned() } else { "missing".to_owned() }
}

fn shortened(mut text: String) -> String {
    if let Some((cut, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(body: &str) -> Answered {
        let fields = HeaderMap::from_iter([(CONTENT_TYPE, "application/json".parse().unwrap())]);
        Answered { status: 200, fields, body: Some(body.as_bytes().to_vec()) }
    }

    fn trio([primary, again, canary]: [Option<Answered>; 3]) -> Trio {
        let text = |text: &str| text.to_owned();
        let (split, version, route, path) = (text("web"), text("canary"), text("all"), text("/"));
        Trio { split, version, route, path, primary, again, canary }
    }

    fn places(answers: [Answered; 3]) -> Vec<String> {
        let look = look(&trio(answers.map(Some)), &Settings::default());
        let word = |seen: &Seen| match (seen.canary, seen.again) {
            (true, false) => "canary",
            (false, true) => "primary",
            _ => "both",
        };
        look.places.iter().map(|(place, seen)| format!("{place}: {}", word(seen))).collect()
    }

    fn bodies(bodies: [&str; 3]) -> Vec<String> {
        places(bodies.map(json))
    }

    #[test]
    fn differences_are_found_by_path_and_order_of_names_is_none() {
        let same = r#"{"a": 1, "b": [1, 2]}"#;
        assert!(bodies([same, r#"{"b": [1, 2], "a": 1}"#, same]).is_empty());
        assert_eq!(bodies([same, same, r#"{"a": 2, "b": [1, 2]}"#]), ["$.a: canary"]);
        assert_eq!(bodies([same, r#"{"a": 2, "b": [1, 2]}"#, same]), ["$.a: primary"]);
        assert_eq!(bodies([same, same, r#"{"a": "1", "b": [1, 2]}"#]), ["$.a: canary", "$.a (type): canary"]);
        assert_eq!(bodies([same, same, r#"{"a": 1}"#]), ["$.b: canary", "$.b (type): canary"]);
        assert_eq!(bodies([same, same, "[]"]), ["$: canary", "$ (type): canary"]);
    }

    #[test]
    fn elements_of_an_array_are_one_place() {
        let items = |prices: [u32; 3]| {
            let items: Vec<_> = prices.iter().map(|price| format!(r#"{{"price": {price}}}"#)).collect();
            format!(r#"{{"items": [{}]}}"#, items.join(","))
        };
        let (a, b, c) = (items([1, 2, 3]), items([1, 2, 4]), items([5, 2, 3]));
        assert_eq!(bodies([&a, &a, &c]), ["$.items[*].price: canary"]);
        assert_eq!(bodies([&a, &b, &c]), ["$.items[*].price: both"]);
        let longer = r#"{"items": [{"price": 1}, {"price": 2}, {"price": 3}, {"price": 4}]}"#;
        assert_eq!(bodies([&a, &a, longer]), ["$.items[*]: canary", "$.items[*] (type): canary"]);
    }

    #[test]
    fn names_that_are_made_up_are_one_place_and_odd_ones_are_quoted() {
        let a = r#"{"4711": 1, "x y": 1}"#;
        let b = r#"{"4712": 1, "x y": 1}"#;
        let c = r#"{"550e8400-e29b-41d4-a716-446655440000": 1, "x y": 2}"#;
        assert_eq!(bodies([a, b, c]), ["$.* (type): both", "$.*: both", "$[\"x y\"]: canary"].sorted());
    }

    trait Sorted {
        fn sorted(self) -> Vec<String>;
    }

    impl<const N: usize> Sorted for [&str; N] {
        fn sorted(self) -> Vec<String> {
            let mut all: Vec<(String, String)> = self
                .iter()
                .map(|text| text.rsplit_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap())
                .collect();
            all.sort();
            all.into_iter().map(|(place, who)| format!("{place}: {who}")).collect()
        }
    }

    fn plain(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answered {
        let field = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        let mut fields = HeaderMap::new();
        for (name, value) in headers.iter().map(field) {
            fields.append(name, value);
        }
        Answered { status, fields, body: Some(body.as_bytes().to_vec()) }
    }

    #[test]
    fn headers_differ_by_name_and_cookies_by_theirs() {
        let a = plain(200, &[("x-a", "1"), ("set-cookie", "sid=1; path=/"), ("date", "now")], "");
        let b = plain(200, &[("x-a", "1"), ("set-cookie", "sid=2; path=/"), ("date", "then")], "");
        let c = plain(200, &[("x-a", "2"), ("set-cookie", "other=2")], "");
        assert_eq!(
            places([a.clone(), b, c]),
            [
                "header set-cookie other: canary",
                "header set-cookie other (presence): canary",
                "header set-cookie sid: both",
                "header set-cookie sid (presence): canary",
                "header x-a: canary",
            ]
            .sorted()
        );
        let none = plain(200, &[("set-cookie", "sid=1; path=/")], "");
        assert_eq!(
            places([a.clone(), a, none]),
            ["header x-a: canary", "header x-a (presence): canary"].sorted()
        );
    }

    #[test]
    fn answers_of_another_kind_differ_in_their_status_alone() {
        let (good, bad) = (plain(200, &[("x-a", "1")], "yes"), plain(500, &[], "no"));
        assert_eq!(places([good.clone(), good.clone(), bad]), ["status: canary"]);
        let created = plain(201, &[("x-a", "2")], "yes");
        assert_eq!(places([good.clone(), good, created]), ["header x-a: canary", "status: canary"]);
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_said_so() {
        let left_out = |answers| look(&trio(answers), &Settings::default()).left_out;
        let zipped = || Some(plain(200, &[("content-encoding", "gzip")], "zz"));
        let text = || Some(plain(200, &[], "text"));
        let long = || Some(Answered { body: None, ..plain(200, &[], "") });
        assert_eq!(left_out([text(), text(), None]), Some(LeftOut::Unanswered));
        assert_eq!(left_out([text(), text(), zipped()]), Some(LeftOut::Encoded));
        assert_eq!(left_out([long(), long(), long()]), Some(LeftOut::TooLong));
        assert_eq!(left_out([text(), text(), text()]), None);
        assert_eq!(places([text(), text(), long()].map(Option::unwrap)), ["body: canary"]);
        let broken = json(r#"{"a": "#);
        let whole = json(r#"{"a": 1}"#);
        assert_eq!(places([whole.clone(), whole, broken]), ["body: canary", "body (type): canary"]);
    }

    #[test]
    fn ignored_places_are_not_looked_at_nor_what_is_below_them() {
        let ignore = vec![Ignored::Path("$.meta".to_owned()), Ignored::Header("x-a".to_owned())];
        let settings = Settings { ignore, ..Settings::default() };
        let mut canary = json(r#"{"meta": {"at": 2}, "a": 1}"#);
        canary.fields.insert("x-a", "1".parse().unwrap());
        let primary = json(r#"{"meta": {"at": 1}, "a": 1}"#);
        let look = look(&trio([Some(primary.clone()), Some(primary), Some(canary)]), &settings);
        assert_eq!(look, Look::default());
    }

    #[test]
    fn values_are_shown_only_where_asked_for_and_shortened() {
        let long = format!(r#"{{"a": "{}"}}"#, "é".repeat(100));
        let answers = || trio([json("{\"a\": 1}"), json("{\"a\": 1}"), json(&long)].map(Some));
        let example = |examples| {
            let settings = Settings { examples, ..Settings::default() };
            look(&answers(), &settings).places.remove("$.a").unwrap().example
        };
        assert_eq!(example(false), None);
        let (primary, canary) = example(true).unwrap();
        assert_eq!((primary.as_str(), canary.chars().count()), ("1", SHOWN + 1));
    }

    #[test]
    fn the_canary_and_the_primarys_second_answer_are_treated_alike() {
        let answers = [
            json(r#"{"a": 1, "b": {"c": [1, 2]}}"#),
            json(r#"{"a": 2, "b": {"c": [1]}}"#),
            json(r#"{"b": {"c": {}}, "d": 1}"#),
            json("[1]"),
            plain(200, &[("x-a", "1")], "text"),
            plain(404, &[], ""),
            Answered { body: None, ..plain(200, &[], "") },
        ];
        for (i, first) in answers.iter().enumerate() {
            for second in &answers {
                for third in &answers {
                    let one = look(
                        &trio([Some(first.clone()), Some(second.clone()), Some(third.clone())]),
                        &Settings::default(),
                    );
                    let mut other = look(
                        &trio([Some(first.clone()), Some(third.clone()), Some(second.clone())]),
                        &Settings::default(),
                    );
                    for seen in other.places.values_mut() {
                        std::mem::swap(&mut seen.canary, &mut seen.again);
                    }
                    assert_eq!(one, other, "{i}");
                }
            }
        }
    }
}
