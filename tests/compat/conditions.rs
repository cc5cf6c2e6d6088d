//! Conditions in Argo's language, with what is peculiar about them.

use serde_json::json;
use serin::clock::Moment;
use serin::judge::condition::Condition;
use serin::judge::condition::Outcome;
use serin::judge::condition::outcome;
use serin::judge::samples::Sample;

use crate::harness::Seeded;

fn condition(text: &str) -> Condition {
    Condition::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
}

fn holds(text: &str, sample: &Sample) -> Result<bool, String> {
    condition(text).holds(sample, Moment(1_700_000_000_000))
}

fn one(value: f64) -> Sample {
    Sample::Number(value.into())
}

#[test]
fn conditions_on_what_a_metrics_server_answers_hold_as_with_argo() {
    let two = Sample::Numbers(vec![0.5.into(), 0.99.into()]);
    for (text, sample, expected) in [
        ("result[0] >= 0.95", one(0.96), true),
        ("result[0] >= 0.95", one(0.94), false),
        ("value >= 0.95", one(0.96), true),
        ("len(result) == 2 && result[1] > 0.9", two.clone(), true),
        ("all(result, # > 0.9)", two.clone(), false),
        ("any(result, {# > 0.9})", two.clone(), true),
        ("mean(result) > 0.7 and max(result) < 1", two, true),
        ("len(result) == 0 || result[0] >= 0.95", Sample::Absent, true),
        ("isNaN(result[0]) || result[0] >= 0.95", one(f64::NAN), true),
        ("2 in result", Sample::Numbers(vec![2.0.into(), 2.0.into()]), true),
        ("result > 1", Sample::Said(json!(5)), true),
        ("asInt(result) == 1 and asFloat(result) >= 1", Sample::Said(json!(1.123)), true),
        ("asFloat(result) == 1.1", Sample::Said(json!("1.1")), true),
        ("result == 'ok'", Sample::Said(json!("ok")), true),
        (
            "all(result.a.values, {# > 1})",
            Sample::Said(json!({"a": {"label": null, "values": [2, 2]}})),
            true,
        ),
        ("isInf(result[0])", one(f64::INFINITY), true),
        ("isInf(result[0])", one(f64::NEG_INFINITY), true),
        ("isInf(result[0])", one(1.0), false),
        ("asInt(result[0]) == 3", one(3.9), true),
        ("asInt(\"3\") == 3 && asFloat(\"2.5\") == 2.5 && asFloat(2) == 2.0", one(0.0), true),
        ("result == true", Sample::Said(json!(true)), true),
        (
            "result.ok and result.items[1] == \"b\"",
            Sample::Said(json!({"ok": true, "items": ["a", "b"]})),
            true,
        ),
        ("result?.missing ?? 7.0 > 6", Sample::Said(json!({"ok": 1})), true),
        ("isNil(result)", Sample::Said(json!(null)), true),
        ("isNil(result)", Sample::Absent, false),
        ("default(result, 0) < 0.05", Sample::Said(json!(null)), true),
        ("default(result, 0) < 0.05", Sample::Said(json!(0.5)), false),
        // Whatever they are given, both look at the whole result.
        ("isNil(result.missing)", Sample::Said(json!({"ok": 1})), false),
        ("isNil(1)", Sample::Said(json!(null)), true),
        ("let rate = result[0] * 100; rate > 95 ? true : false", one(0.96), true),
        ("result[0] in 1..3 or \"timeout\" matches \"^time\"", one(9.0), true),
        ("now().Year() == 2023 && now() > date(\"2023-01-01\")", one(0.0), true),
        ("fromJSON(\"{\\\"a\\\": 2}\").a == 2.0", one(0.0), true),
    ] {
        assert_eq!(holds(text, &sample), Ok(expected), "{text} on {sample:?}");
    }
}

#[test]
fn no_number_is_a_failure_for_one_kind_of_condition_and_a_success_for_the_other() {
    let nan = one(f64::NAN);
    let now = Moment(0);
    assert_eq!(outcome(Some(&condition("result[0] >= 0.95")), None, &nan, now), Outcome::Failed);
    assert_eq!(outcome(None, Some(&condition("result[0] < 0.95")), &nan, now), Outcome::Successful);
}

#[test]
fn both_conditions_make_the_outcome() {
    let (success, failure) = (condition("result[0] >= 0.95"), condition("result[0] < 0.90"));
    let of = |value: f64| outcome(Some(&success), Some(&failure), &one(value), Moment(0));
    assert_eq!(of(0.96), Outcome::Successful);
    assert_eq!(of(0.92), Outcome::Inconclusive);
    assert_eq!(of(0.85), Outcome::Failed);
    let always = condition("true");
    assert_eq!(outcome(Some(&always), Some(&always), &one(0.0), Moment(0)), Outcome::Failed, "failure wins");
    assert_eq!(outcome(None, None, &Sample::Absent, Moment(0)), Outcome::Successful, "nothing was asked");
}

#[test]
fn what_cannot_be_evaluated_is_an_error_and_says_why() {
    for (text, sample, why) in [
        ("result[0] >= 0.95", Sample::Absent, ""),
        ("result[0]", one(1.0), "true or false"),
        ("result", Sample::Said(json!("yes")), "true or false"),
        ("asInt(\"x\") == 1", one(1.0), "no number"),
        ("asInt(result) == 1", Sample::Said(json!("1.1")), "no number"),
        ("result.Name() == 'hi'", Sample::Said(json!(true)), ""),
        ("result.a.b == 1", Sample::Said(json!(1)), ""),
    ] {
        let told = holds(text, &sample).expect_err(text);
        assert!(told.contains(why), "{text}: {told}");
        let of = outcome(Some(&condition(text)), None, &sample, Moment(0));
        assert!(matches!(of, Outcome::Error(_)), "{text}: {of:?}");
    }
    let error = Sample::Error("the server is away".to_owned());
    assert_eq!(outcome(None, None, &error, Moment(0)), Outcome::Error("the server is away".to_owned()));
}

#[test]
fn what_is_no_condition_or_could_do_harm_is_refused_when_it_is_read() {
    let nested = format!("{}1{}", "(".repeat(40), ")".repeat(40));
    let long = format!("true || {}", "true || ".repeat(200));
    for (text, why) in [
        ("result[0] >=", "is no condition"),
        ("resutl[0] > 1", "resutl"),
        ("isNan(result[0])", "isNan"),
        (nested.as_str(), "deeper than 32"),
        (long.as_str(), "at most 1024 bytes"),
        ("len(0..9999999999) > 1", "up to 10000"),
        ("len(0..int(result[0])) > 1", "up to 10000"),
    ] {
        let told = Condition::parse(text).expect_err(text);
        assert!(told.contains(why) && !told.contains('\n'), "{text}: {told}");
    }
    assert!(Condition::parse("\"a..b\" matches \"a..b\"").is_ok(), "a range in a text is none");
    assert!(holds("repeat(\"x\", 100000) == \"\"", &one(1.0)).is_err());
    // Long runs of one operator, and hostile texts, must not take the process down.
    for text in ["!".repeat(1_000) + "true", "-".repeat(1_000) + "1", "not ".repeat(250) + "true"] {
        let _ = Condition::parse(&text);
    }
    for text in
        ["\"", "{", "}{", "1 2", "#", "let", "let x", "a?.", "[1][9999999999999999999999]", "b\"\\x\"", "'\\"]
    {
        assert!(Condition::parse(text).is_err(), "{text}");
    }
}

const PIECES: [&str; 60] = [
    "result[0]",
    "result",
    "value",
    "result[-1]",
    "result[1:2]",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "len(",
    "asInt(",
    "asFloat(",
    "isNaN(",
    "isInf(",
    "isNil(",
    "default(result, 0)",
    "fromJSON(\"{\\\"a\\\": [1]}\")",
    "repeat(\"x\", 9)",
    "now()",
    "all(",
    "any(",
    "filter(",
    "map(",
    "count(",
    "#",
    "#.a",
    ".a",
    "?.a",
    "??",
    "?",
    ":",
    ",",
    ";",
    "|",
    "..",
    "1..3",
    "&&",
    "||",
    "and",
    "or",
    "not",
    "!",
    "==",
    "!=",
    ">=",
    "<",
    "+",
    "-",
    "*",
    "/",
    "%",
    "**",
    "in",
    "matches",
    "contains",
    "let x = 1;",
    "\"a\\x\"",
    "9223372036854775807",
];
const NUMBERS: [&str; 8] = ["0", "1", "-1", "0.95", "1e309", "0x1f", "1_000", "-9223372036854775808"];

/// A condition that is nearly one: pieces in a row, or a good one with a piece gone,
/// doubled or put elsewhere.
fn spoilt(random: &mut Seeded) -> String {
    let good = [
        "result[0] >= 0.95 && !isNaN(result[0])",
        "all(result, # < 0.9) or len(result) == 0",
        "default(result, 0) in [1, 2, 3] ? true : false",
        "let low = 1; result[0] > low and value % 2 == 0",
        "\"abc\" matches \"a.*\" || fromJSON(\"[1, 2]\")[0] == asInt(\"1\")",
        "filter(1..9, # % 2 == 0)[0] / (value - 1) > 10 ** 3",
    ];
    let pick = |random: &mut Seeded, list: &[&str]| list[random.below(list.len())].to_owned();
    let mut parts: Vec<String> = if random.below(3) == 0 {
        (0..1 + random.below(12)).map(|_| pick(random, &PIECES)).collect()
    } else {
        pick(random, &good).split(' ').map(str::to_owned).collect()
    };
    for _ in 0..random.below(4) {
        let at = random.below(parts.len());
        match random.below(5) {
            0 if parts.len() > 1 => drop(parts.remove(at)),
            1 => parts.insert(at, pick(random, &PIECES)),
            2 => parts[at] = pick(random, &NUMBERS),
            3 => parts.insert(at, parts[random.below(parts.len())].clone()),
            _ => {
                let letters: Vec<char> = parts[at].chars().collect();
                let cut = random.below(letters.len() + 1);
                parts[at] = letters[..cut].iter().collect();
            }
        }
    }
    parts.join(if random.below(4) == 0 { "" } else { " " })
}

/// A panic would end the process. Which seed: `CONDITION_SEED`.
#[test]
fn no_text_of_a_condition_panics() {
    let named = std::env::var("CONDITION_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = named.unwrap_or(1);
    let mut random = Seeded(seed);
    let samples = [Sample::Absent, one(0.5), one(f64::NAN), one(-0.0), one(1e300), Sample::Numbers(vec![])];
    let mut understood = 0;
    for _ in 0..20_000 {
        let text = spoilt(&mut random);
        let run = std::panic::AssertUnwindSafe(|| {
            let Ok(condition) = Condition::parse(&text) else { return false };
            samples.iter().for_each(|sample| drop(condition.holds(sample, Moment(1_700_000_000_000))));
            true
        });
        let is_understood = std::panic::catch_unwind(run);
        understood += usize::from(is_understood.unwrap_or_else(|_| panic!("seed {seed}: {text:?}")));
    }
    assert!(understood > 2_000, "{understood} of 20000 were understood");
}
