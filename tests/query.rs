//! Our PromQL against a real Prometheus over the same samples: what one answers
//! the other must answer, or both refuse.

mod questions;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};
use serin::query::{Answer, Query, QueryError, Span, told};
use serin::series::{Keep, Labels, Point, Store};

use crate::harness::client::once;
use crate::harness::prometheus::{Prometheus, encoded};
use crate::harness::{Ask, Seeded, require};

const SAMPLES: i64 = 1200;
const QUERIES: usize = 700;
const TIMEOUT: Duration = Duration::from_secs(20);

/// One series of the oracle's world, with a value for each second.
struct Made {
    name: &'static str,
    labels: Vec<(&'static str, String)>,
    values: Vec<f64>,
}

fn world(random: &mut Seeded) -> Vec<Made> {
    let mut world = Vec::new();
    for job in ["api", "web"] {
        for instance in ["a", "b", "c"] {
            for code in ["200", "404", "503"] {
                let labels = vec![
                    ("job", job.to_owned()),
                    ("instance", instance.to_owned()),
                    ("code", code.to_owned()),
                ];
                let step = 1 + random.below(40);
                let mut total = random.below(1000) as f64;
                let values = (0..SAMPLES).map(|_| {
                    total += random.below(step) as f64;
                    if random.below(400) == 0 {
                        total = random.below(20) as f64;
                    }
                    total
                });
                world.push(Made { name: "requests_total", values: values.collect(), labels });
            }
            let labels = vec![("job", job.to_owned()), ("instance", instance.to_owned())];
            let mut level = 20.0;
            let values = (0..SAMPLES).map(|_| {
                level += random.unit() - 0.5;
                level
            });
            world.push(Made { name: "temperature", values: values.collect(), labels });
            world.extend(histogram(random, job, instance));
        }
    }
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 1e300, -1e-300, 5.0, -7.25];
    for instance in ["a", "b"] {
        let values = (0..SAMPLES).map(|_| random.pick(&odd));
        let labels = vec![("job", "api".to_owned()), ("instance", instance.to_owned())];
        world.push(Made { name: "odd", values: values.collect(), labels });
    }
    world
}

fn histogram(random: &mut Seeded, job: &str, instance: &str) -> Vec<Made> {
    let mut made = Vec::new();
    let bounds = ["0.1", "0.5", "1", "5", "+Inf"];
    let mut counts = vec![vec![0.0; SAMPLES as usize]; bounds.len()];
    let mut totals = [0.0; 5];
    for second in 0..SAMPLES as usize {
        for _ in 0..random.below(20) {
            let at = random.below(bounds.len());
            totals[at..].iter_mut().for_each(|total| *total += 1.0);
        }
        for (counts, total) in counts.iter_mut().zip(totals) {
            counts[second] = total;
        }
    }
    for (bound, values) in bounds.into_iter().zip(counts) {
        let labels =
            vec![("job", job.to_owned()), ("instance", instance.to_owned()), ("le", bound.to_owned())];
        made.push(Made { name: "latency_bucket", labels, values });
    }
    made
}

fn stored(world: &[Made], start: i64) -> Store {
    let store = Store::default();
    let keep = Keep { moments: usize::MAX / 2, bytes: usize::MAX };
    for second in 0..SAMPLES {
        let mut record = store.record(start + second * 1000, keep).expect("time goes on");
        for made in world {
            let labels: Vec<(&str, &str)> =
                made.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
            record.put([made.name, ""], &labels, None, made.values[second as usize]);
        }
        record.finish();
    }
    store
}

/// A Prometheus whose store was made of the same samples.
fn oracle(program: &Path, promtool: &Path, world: &[Made], start: i64) -> Prometheus {
    let mut text = String::new();
    for name in ["requests_total", "temperature", "latency_bucket", "odd"] {
        let _ = writeln!(text, "# TYPE {name} unknown");
        for made in world.iter().filter(|made| made.name == name) {
            let labels: Vec<_> =
                made.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
            for (second, value) in made.values.iter().enumerate() {
                let at = (start + second as i64 * 1000) as f64 / 1000.0;
                let _ = writeln!(text, "{name}{{{}}} {} {at:.3}", labels.join(","), told(*value));
            }
        }
    }
    text += "# EOF\n";
    let nobody = "- job_name: nobody\n    static_configs: []\n";
    Prometheus::start_with(program, nobody, &["--storage.tsdb.retention.time=100y"], |data| {
        std::fs::create_dir_all(data).expect("the folder is ours");
        let file = data.with_extension("txt");
        std::fs::write(&file, &text).expect("the folder is ours");
        let made = Command::new(promtool)
            .args(["tsdb", "create-blocks-from", "openmetrics", "-q"])
            .args([&file, &data.to_path_buf()])
            .output()
            .expect("promtool can be run");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    })
}

fn ours(answer: Result<Answer, QueryError>) -> Result<Value, QueryError> {
    let point = |Point { at, value }: Point| json!([at, told(value)]);
    let metric = |labels: &Labels| {
        let pairs = labels.iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
        Value::Object(pairs.collect::<Map<_, _>>())
    };
    Ok(match answer? {
        Answer::Scalar(value) => json!({"resultType": "scalar", "result": point(value)}),
        Answer::Text(at, text) => json!({"resultType": "string", "result": [at, text]}),
        Answer::Vector(samples) => {
            let result: Vec<Value> = samples
                .iter()
                .map(|(labels, value)| json!({"metric": metric(labels), "value": point(*value)}))
                .collect();
            json!({"resultType": "vector", "result": result})
        }
        Answer::Matrix(lines) => {
            let result: Vec<Value> = lines
                .iter()
                .map(|(labels, points)| {
                    let values: Vec<Value> = points.iter().map(|value| point(*value)).collect();
                    json!({"metric": metric(labels), "values": values})
                })
                .collect();
            json!({"resultType": "matrix", "result": result})
        }
    })
}

/// Its series with their values, in order of their labels, moments as milliseconds.
fn lines(data: &Value) -> Vec<(String, Vec<(i64, f64)>)> {
    let number = |text: &Value| match text.as_str().expect("a value is a text") {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().expect("a number"),
    };
    let moment = |at: &Value, unit: f64| (at.as_f64().expect("a moment") * unit).round() as i64;
    let unit = if data["unit"] == "ms" { 1.0 } else { 1000.0 };
    let point = |pair: &Value| (moment(&pair[0], unit), number(&pair[1]));
    if data["resultType"] == "string" {
        return vec![(data["result"][1].to_string(), Vec::new())];
    }
    if data["resultType"] == "scalar" {
        return vec![(String::new(), vec![point(&data["result"])])];
    }
    let mut lines: Vec<_> = data["result"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| {
            let values = match line["values"].as_array() {
                Some(values) => values.iter().map(point).collect(),
                None => vec![point(&line["value"])],
            };
            (line["metric"].to_string(), values)
        })
        .collect();
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines
}

fn is_near(a: f64, b: f64) -> bool {
    let size = a.abs().max(b.abs());
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * size.max(1e-3)
}

/// What is different, if anything.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    if ours["resultType"] != theirs["resultType"] {
        return Some(format!("{} and {}", ours["resultType"], theirs["resultType"]));
    }
    let (ours, theirs) = (lines(ours), lines(theirs));
    let named =
        |lines: &[(String, Vec<(i64, f64)>)]| lines.iter().map(|line| line.0.clone()).collect::<Vec<_>>();
    if named(&ours) != named(&theirs) {
        return Some(format!("we have {:?}\nthey have {:?}", named(&ours), named(&theirs)));
    }
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        if ours.len() != theirs.len() {
            return Some(format!("{name}: {} points and {}", ours.len(), theirs.len()));
        }
        for (mine, other) in ours.iter().zip(theirs) {
            if mine.0 != other.0 || !is_near(mine.1, other.1) {
                return Some(format!("{name}: {mine:?} and {other:?}"));
            }
        }
    }
    None
}

struct Compared {
    prometheus: Prometheus,
    store: Store,
    start: i64,
}

impl Compared {
    fn begin(seed: u64) -> Option<Compared> {
        let (program, promtool): (PathBuf, PathBuf) = (require("prometheus")?, require("promtool")?);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        // A whole second: a moment with a fraction is not read back as it was written.
        let start = (now.as_secs() as i64 - 3600) * 1000;
        let world = world(&mut Seeded(seed));
        let prometheus = oracle(&program, &promtool, &world, start);
        Some(Compared { prometheus, store: stored(&world, start), start })
    }

    /// `None` where both say the same; true where both refuse.
    fn compare(&self, text: &str, span: Option<Span>, at: i64) -> Result<bool, String> {
        let parsed = Query::parse(text);
        let (path, answer) = match span {
            None => {
                let path = format!("/api/v1/query?query={}&time={}", encoded(text), at as f64 / 1000.0);
                (path, parsed.and_then(|query| query.at(&self.store, at, TIMEOUT)))
            }
            Some(span) => {
                let [start, end, step] = [span.start, span.end, span.step].map(|ms| ms as f64 / 1000.0);
                let query = encoded(text);
                let path = format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}");
                (path, parsed.and_then(|query| query.over(&self.store, span, TIMEOUT)))
            }
        };
        let theirs = once(self.prometheus.address, &Ask::get(&path).header("connection", "close")).json();
        match (ours(answer), theirs["status"] == "success") {
            (Ok(mut ours), true) => {
                ours["unit"] = json!("ms");
                match difference(&ours, &theirs["data"]) {
                    None => Ok(false),
                    Some(difference) => Err(format!("{text}\n  {difference}")),
                }
            }
            (Err(error), false) => {
                let kind = if matches!(error, QueryError::Execution(_)) { "execution" } else { "bad_data" };
                match theirs["errorType"] == kind {
                    true => Ok(true),
                    false => Err(format!("{text}\n  we refuse with {error:?}, they with {theirs}")),
                }
            }
            (Ok(ours), false) => Err(format!("{text}\n  they refuse with {theirs}, we answer {ours}")),
            (Err(error), true) => Err(format!("{text}\n  we refuse with {error}, they answer")),
        }
    }
}

#[test]
fn generated_queries_are_answered_as_a_real_prometheus_answers_them() {
    // Another may be named, to look further than a test run has time for.
    let named = std::env::var("QUERY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = named.unwrap_or(20261128);
    let Some(compared) = Compared::begin(seed) else { return };
    let mut random = Seeded(seed ^ 0xabcdef);
    let (mut different, mut refused) = (Vec::new(), 0);
    for number in 0..QUERIES {
        let text = questions::vector(&mut random, 3);
        let at = compared.start + 600_000 + random.below(600_000) as i64;
        let span = (number % 3 == 0).then(|| Span { start: at - 60_000, end: at, step: 7_300 });
        match compared.compare(&text, span, at) {
            Ok(both_refuse) => refused += usize::from(both_refuse),
            Err(text) => different.push(text),
        }
    }
    println!("{QUERIES} queries, {refused} refused by both, {} different", different.len());
    assert!(refused * 4 < QUERIES, "{refused} were refused");
    assert!(different.is_empty(), "seed {seed}: {} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn every_function_and_operator_is_answered_as_a_real_prometheus_answers_it() {
    let Some(compared) = Compared::begin(7) else { return };
    let at = compared.start + 900_500;
    let mut different = Vec::new();
    for text in questions::EACH {
        for span in [None, Some(Span { start: at - 45_000, end: at, step: 5_000 })] {
            // A range of values is an answer at one moment alone.
            different.extend(compared.compare(text, span, at).err());
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}

#[test]
fn a_query_has_bounds() {
    let store = Store::default();
    let keep = Keep { moments: 1 << 20, bytes: 1 << 30 };
    for second in 0..5000 {
        let mut record = store.record(second * 1000, keep).expect("later");
        for number in 0..20 {
            record.put(["many", ""], &[("number", &number.to_string())], None, second as f64);
        }
        record.finish();
    }
    let run = |text: &str, timeout: Duration| {
        Query::parse(text)?.over(&store, Span { start: 0, end: 5_000_000, step: 1000 }, timeout)
    };
    assert!(run("sum(many)", TIMEOUT).is_ok());
    let text = "sum_over_time(vector(1)[5000000s:1s])";
    assert!(
        matches!(run(text, TIMEOUT), Err(QueryError::Execution(text)) if text.contains("too many samples"))
    );
    let text = "max_over_time(sum(many)[4000s:1s])";
    assert_eq!(run(text, Duration::from_millis(50)), Err(QueryError::Timeout));
    let bad = |text: &str| matches!(Query::parse(text), Err(QueryError::Bad(_)));
    assert!(bad(&"1+".repeat(20_000)), "too long a text");
}

/// Where a panic would end the proxy: texts that are nearly PromQL, evaluated
/// where they can be.
#[test]
fn no_text_panics() {
    let named = std::env::var("QUERY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = named.unwrap_or(1);
    let mut random = Seeded(seed);
    let world = world(&mut random);
    let store = stored(&world[..12], 1_000_000);
    let texts: Vec<String> = (0..20_000).map(|_| questions::spoilt(&mut random)).collect();
    let thread = std::thread::Builder::new().stack_size(serin::query::STACK);
    let asked = thread.spawn(move || {
        let mut understood = 0;
        for text in texts {
            let run = std::panic::AssertUnwindSafe(|| match Query::parse(&text) {
                Ok(query) => {
                    let span = Span { start: 1_500_000, end: 1_600_000, step: 50_000 };
                    drop(query.over(&store, span, Duration::from_millis(20)));
                    drop(query.at(&store, 1_500_500, Duration::from_millis(20)));
                    true
                }
                Err(_) => false,
            });
            let is_understood = std::panic::catch_unwind(run);
            understood += usize::from(is_understood.unwrap_or_else(|_| panic!("seed {seed}: {text:?}")));
        }
        understood
    });
    let understood = asked.expect("a thread can be started").join().expect("nothing panics");
    println!("{understood} of 20000 texts were understood");
    assert!(understood > 2_000, "{understood}");
}

/// The stack of a query's thread is enough for whatever may be asked.
#[test]
fn no_nesting_is_too_deep() {
    let texts: Vec<String> = vec![
        "-".repeat(16_000) + "1",
        "(".repeat(8_000) + "1" + &")".repeat(8_000),
        format!("1{}", "+1".repeat(8_000)),
        "abs(".repeat(3_200) + "a" + &")".repeat(3_200),
        format!("1{}", "^1".repeat(8_000)),
        "(".repeat(16_000),
    ];
    let thread = std::thread::Builder::new().stack_size(serin::query::STACK);
    let deep = thread.spawn(move || {
        for text in texts {
            if let Ok(query) = Query::parse(&text) {
                drop(query.at(&Store::default(), 0, TIMEOUT));
            }
        }
    });
    deep.expect("a thread can be started").join().expect("nothing panics");
}
