//! Queries: a list with each function and operator, and a generator of more.

use crate::harness::Seeded;

pub const EACH: [&str; 117] = [
    "1",
    "-1.5e3",
    "1 / 0",
    "0 / 0",
    "2 ^ 3 ^ 2",
    "-2 ^ 2",
    "7 % 3",
    "-7 % 3",
    "1 > bool 2",
    "\"text\"",
    "time()",
    "pi()",
    "vector(1)",
    "vector(time())",
    "scalar(temperature)",
    "scalar(temperature{job=\"api\",instance=\"a\"})",
    "temperature",
    "temperature[5s]",
    "temperature offset 30s",
    "temperature @ start()",
    "temperature @ end() offset 5s",
    "temperature offset -10s",
    "nothing",
    "{__name__=~\"temp.*|odd\"}",
    "{job=\"api\",instance!~\"a|b\"}",
    "requests_total{code!=\"200\",job=\"web\"}",
    "requests_total{code=~\"5..|4..\"}",
    "requests_total{other=\"\",instance=\"a\"}",
    "rate(requests_total[30s])",
    "rate(requests_total[1s])",
    "rate(requests_total[2s])",
    "rate(requests_total[2m] offset 1m)",
    "irate(requests_total[30s])",
    "increase(requests_total[1m])",
    "delta(temperature[1m])",
    "idelta(temperature[10s])",
    "deriv(temperature[1m])",
    "predict_linear(temperature[1m], 60)",
    "changes(requests_total[1m])",
    "resets(requests_total[10m])",
    "avg_over_time(temperature[30s])",
    "min_over_time(odd[30s])",
    "max_over_time(odd[30s])",
    "sum_over_time(requests_total[30s])",
    "count_over_time(odd[30s])",
    "last_over_time(odd[30s])",
    "quantile_over_time(0.9, temperature[1m])",
    "quantile_over_time(2, temperature[1m])",
    "stddev_over_time(temperature[1m])",
    "stdvar_over_time(temperature[1m])",
    "present_over_time(odd[10s])",
    "absent_over_time(nothing{a=\"b\"}[10s])",
    "absent_over_time(odd[10s])",
    "avg_over_time(odd[10s])",
    "sum_over_time(odd[3s])",
    "stddev_over_time(odd[3s])",
    "sum(requests_total)",
    "sum by (job) (requests_total)",
    "sum without (job) (requests_total)",
    "sum by (nothing) (odd)",
    "avg by (job) (temperature)",
    "min by (job) (odd)",
    "max(odd)",
    "count by (code) (requests_total)",
    "group by (job) (temperature)",
    "stddev(temperature)",
    "stdvar by (instance) (temperature)",
    "topk(2, temperature)",
    "bottomk by (job) (1, temperature)",
    "topk(0, temperature)",
    "topk(-1, temperature)",
    "quantile(0.25, temperature)",
    "quantile by (job) (-1, temperature)",
    "count_values(\"v\", count by (code) (requests_total))",
    "sum by (__name__) ({job=\"api\"})",
    "avg(odd)",
    "sum(odd)",
    "stddev(odd)",
    // No two of these are ever equal: which of equals comes first is chance in Prometheus.
    "topk(1, {__name__=~\"odd|temperature\",job=\"api\",instance=\"a\"})",
    "bottomk(1, {__name__=~\"odd|temperature\",job=\"api\",instance=\"b\"})",
    "histogram_quantile(0.99, sum by (le) (rate(latency_bucket[1m])))",
    "histogram_quantile(0.5, rate(latency_bucket[30s]))",
    "histogram_quantile(0, latency_bucket)",
    "histogram_quantile(1, latency_bucket)",
    "histogram_quantile(1.5, latency_bucket)",
    "histogram_quantile(0.9, sum by (le) (latency_bucket{le!=\"+Inf\"}))",
    "histogram_quantile(0.9, temperature)",
    "temperature > 20",
    "20 < temperature",
    "temperature > bool 20",
    "temperature == temperature",
    "temperature != bool 20",
    "temperature + on(instance) group_left sum by (instance) (requests_total)",
    "temperature / ignoring(job) temperature",
    "sum by (job) (temperature) / on(job) sum by (job) (requests_total)",
    "requests_total / on(job, instance) group_left(x) temperature",
    "temperature * on(job, instance) group_right requests_total",
    "temperature and on(instance) odd",
    "temperature or odd",
    "temperature unless on(instance) odd",
    "vector(1) or vector(2)",
    "temperature == on() group_left vector(5)",
    "-temperature",
    "-{job=\"api\",instance=\"a\"}",
    "abs(-temperature)",
    "ceil(temperature)",
    "floor(odd)",
    "round(temperature, 0.5)",
    "exp(odd)",
    "ln(odd)",
    "sqrt(odd)",
    "log2(odd)",
    "clamp(temperature, 19, 21)",
    "clamp(temperature, 21, 19)",
    "clamp_max(odd, 1)",
    "clamp_min(odd, 1)",
    "sgn(odd)",
];

/// What stands where it should not.
const ODD: [&str; 48] = [
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "\"",
    "'",
    "`",
    "\\",
    ",",
    ":",
    "#",
    "_",
    "@",
    "-",
    "+",
    "^",
    "%",
    "=~",
    "!~",
    "{{",
    "}}",
    "[5m]",
    "[5m:1s]",
    "[99999999999999999999d]",
    "[1y1y1y]",
    "[1ms:1ms]",
    "[0s]",
    "[584942417y]",
    "[-5m]",
    "offset 5m",
    "offset -99999999999y",
    "@ 1e300",
    "@ -1e18",
    "@ 1600",
    "@ start()",
    "by (le)",
    "without ()",
    "on ()",
    "group_left (le)",
    "bool",
    "1e400",
    "0x1p-2",
    "0xffffffffffffffffff",
    "inf",
    "ü\u{0}\u{1f600}",
    "[1000000y:1ms]",
];

/// A query, or what is left of one.
pub fn spoilt(random: &mut Seeded) -> String {
    let mut letters: Vec<char> = match random.chance(50) {
        true => random.pick(&EACH).chars().collect(),
        false => vector(random, 2).chars().collect(),
    };
    for _ in 0..1 + random.below(3) {
        let at = random.below(letters.len() + 1);
        let end = (at + random.below(6)).min(letters.len());
        match random.below(4) {
            0 => drop(letters.drain(at..end)),
            1 => {
                let again = letters[at..end].to_vec();
                letters.splice(at..at, again);
            }
            2 => {
                let odd = random.pick(&ODD).chars();
                letters.splice(at..end, odd);
            }
            _ => {
                let odd = random.pick(&ODD).chars();
                letters.splice(at..at, odd);
            }
        }
    }
    letters.into_iter().collect()
}

/// An expression of a vector.
pub fn vector(random: &mut Seeded, depth: usize) -> String {
    if depth == 0 {
        return selector(random);
    }
    let inner = |random: &mut Seeded| vector(random, depth - 1);
    match random.below(22) {
        0 | 1 => selector(random),
        2..=5 => over_range(random, depth),
        6..=9 => {
            let operator = random.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
            let grouping = grouping(random);
            format!("{operator}{grouping} ({})", inner(random))
        }
        10 => format!("quantile{} ({}, {})", grouping(random), number(random), inner(random)),
        11 => format!("{}({}, {})", random.pick(&["topk", "bottomk"]), 1 + random.below(4), distinct(random)),
        12 | 13 => {
            let operator =
                random.pick(&["+", "-", "*", "/", ">", "<", ">=", "!= bool ", "== bool", "> bool"]);
            match random.chance(50) {
                true => format!("({}) {operator} {}", inner(random), number(random)),
                false => format!("{} {operator} ({})", number(random), inner(random)),
            }
        }
        14 | 15 => {
            let operator = random.pick(&["+", "-", "*", "/", ">", "<=", "and", "or", "unless", "< bool"]);
            let matching =
                random.pick(&["", "on(instance)", "on(job, instance)", "ignoring(code)", "ignoring(le)"]);
            format!("({}) {operator} {matching} ({})", inner(random), inner(random))
        }
        16 => {
            let group = random.pick(&["group_left", "group_left(job)", "group_right", "group_right(code)"]);
            let operator = random.pick(&["*", "/", "-"]);
            let (many, one) = (inner(random), format!("sum by (instance) ({})", inner(random)));
            match group.starts_with("group_left") {
                true => format!("({many}) {operator} on(instance) {group} ({one})"),
                false => format!("({one}) {operator} on(instance) {group} ({many})"),
            }
        }
        17 => {
            let function =
                random.pick(&["abs", "ceil", "floor", "exp", "sqrt", "ln", "round", "timestamp", "sort"]);
            format!("{function}({})", inner(random))
        }
        18 => {
            let q = random.pick(&["0.5", "0.9", "0.99", "0", "1"]);
            let buckets = match random.chance(50) {
                true => format!(
                    "sum by (le{}) (rate(latency_bucket[{}]))",
                    random.pick(&["", ", job"]),
                    range(random)
                ),
                false => format!("increase(latency_bucket[{}])", range(random)),
            };
            format!("histogram_quantile({q}, {buckets})")
        }
        19 => format!(
            "label_replace({}, \"to\", \"$1-x\", \"instance\", \"{}\")",
            inner(random),
            random.pick(&["(.*)", "(a|b)", "b"])
        ),
        20 => format!(
            "label_join({}, \"{}\", \"-\", \"job\", \"instance\")",
            inner(random),
            random.pick(&["both", "job"])
        ),
        _ => format!("absent({})", inner(random)),
    }
}

fn over_range(random: &mut Seeded, depth: usize) -> String {
    let function = random.pick(&[
        "rate",
        "increase",
        "irate",
        "delta",
        "idelta",
        "avg_over_time",
        "sum_over_time",
        "min_over_time",
        "max_over_time",
        "count_over_time",
        "last_over_time",
        "stddev_over_time",
        "changes",
        "resets",
        "deriv",
        "present_over_time",
    ]);
    let ranged = match random.chance(25) {
        true => {
            let step = random.pick(&["", "5s", "10s", "7s"]);
            format!("({})[{}:{step}]", vector(random, depth - 1), range(random))
        }
        false => ranged(random),
    };
    match random.chance(10) {
        true => format!("quantile_over_time({}, {ranged})", random.pick(&["0.1", "0.5", "0.99"])),
        false => format!("{function}({ranged})"),
    }
}

/// Series without two equal values, so that the best of them are not a matter of order.
fn distinct(random: &mut Seeded) -> String {
    random
        .pick(&[
            "temperature",
            "avg_over_time(temperature[20s])",
            "delta(temperature[30s])",
            "temperature * 2",
        ])
        .to_owned()
}

fn ranged(random: &mut Seeded) -> String {
    let shift = shift(random);
    format!("{}[{}]{shift}", bare(random), range(random))
}

fn selector(random: &mut Seeded) -> String {
    bare(random) + &shift(random)
}

fn shift(random: &mut Seeded) -> String {
    let shift =
        ["", "", "", "", " offset 20s", " offset -5s", " @ start()", " @ end()", " @ end() offset 1m"];
    random.pick(&shift).to_owned()
}

fn bare(random: &mut Seeded) -> String {
    let name = random.pick(&["requests_total", "temperature", "latency_bucket", "requests_total", "odd"]);
    let matchers = [
        "",
        "",
        "{job=\"api\"}",
        "{instance=~\"a|b\"}",
        "{instance!=\"a\"}",
        "{job!~\"w.*\"}",
        "{job=\"web\",instance=\"c\"}",
        "{code=\"200\"}",
        "{nothing=\"here\"}",
    ];
    format!("{name}{}", random.pick(&matchers))
}

fn grouping(random: &mut Seeded) -> String {
    let grouping =
        ["", " by (job)", " by (instance)", " by (job, code)", " without (instance)", " without (le, code)"];
    random.pick(&grouping).to_owned()
}

fn range(random: &mut Seeded) -> &'static str {
    random.pick(&["5s", "10s", "30s", "1m", "90s", "3m", "1500ms"])
}

fn number(random: &mut Seeded) -> &'static str {
    random.pick(&[
        "0",
        "1",
        "0.5",
        "-2",
        "20",
        "1000",
        "time()",
        "scalar(temperature{job=\"api\",instance=\"a\"})",
    ])
}
