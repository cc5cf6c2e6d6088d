//! Which endpoint of a version gets a request, and by what a route hashes.

use serin_proxy::model::{Algorithm, Balance, HashFunction, SlowStart};

use crate::config::fields::Fields;
use crate::config::fields::Spot;

use super::units;

const FIELDS: [&str; 10] = [
    "algorithm",
    "choices",
    "bias",
    "minRing",
    "maxRing",
    "hash",
    "tableSize",
    "byHostname",
    "slowStart",
    "panicThreshold",
];
const SLOW_START: [&str; 3] = ["window", "aggression", "minWeight"];
const FUNCTIONS: [(&str, HashFunction); 2] =
    [("xxHash", HashFunction::XxHash), ("murmurHash2", HashFunction::MurmurHash2)];

#[derive(Clone, Copy, PartialEq)]
enum Word {
    RoundRobin,
    LeastRequest,
    Random,
    RingHash,
    Maglev,
}

const WORDS: [(&str, Word); 5] = [
    ("roundRobin", Word::RoundRobin),
    ("leastRequest", Word::LeastRequest),
    ("random", Word::Random),
    ("ringHash", Word::RingHash),
    ("maglev", Word::Maglev),
];

/// Fields that only some algorithms have.
const OWN: [(&str, &[Word]); 7] = [
    ("choices", &[Word::LeastRequest]),
    ("bias", &[Word::LeastRequest]),
    ("minRing", &[Word::RingHash]),
    ("maxRing", &[Word::RingHash]),
    ("hash", &[Word::RingHash]),
    ("tableSize", &[Word::Maglev]),
    ("byHostname", &[Word::RingHash, Word::Maglev]),
];

/// Envoy's.
const RING: (u64, u64) = (1024, 8 * 1024 * 1024);
const TABLE: u64 = 65_537;
const MOST_TABLE: u64 = 5_000_011;

/// `leastRequest`, or a mapping.
pub fn read(spot: &Spot) -> Balance {
    let mut balance = Balance::default();
    if !spot.is_map() {
        if let Some(word) = spot.word(&WORDS) {
            balance.algorithm = algorithm(word, None);
        }
        return balance;
    }
    let Some(fields) = spot.fields(&FIELDS) else { return balance };
    let word = match fields.get("algorithm") {
        Some(spot) => spot.word(&WORDS),
        None => Some(Word::RoundRobin),
    };
    if let Some(word) = word {
        balance.algorithm = algorithm(word, Some(&fields));
        for (field, _) in OWN.iter().filter(|(_, words)| !words.contains(&word)) {
            if let Some(spot) = fields.get(field) {
                spot.error(format!("{} has no `{field}`", name(word)));
            }
        }
        if let Some(spot) = fields.get("slowStart") {
            if !matches!(word, Word::RoundRobin | Word::LeastRequest) {
                spot.error(format!("{} has no slow start; roundRobin and leastRequest have", name(word)));
            }
            balance.slow_start = slow_start(&spot);
        }
    }
    if let Some(parts) = fields.get("panicThreshold").and_then(|spot| spot.parsed(units::parts)) {
        if parts % 100 != 0 {
            fields.spot().error("`panicThreshold` is in whole percents");
        }
        balance.panic_percent = parts / 100;
    }
    balance
}

fn name(word: Word) -> &'static str {
    WORDS.iter().find(|(_, other)| *other == word).map_or("", |(name, _)| name)
}

fn algorithm(word: Word, fields: Option<&Fields>) -> Algorithm {
    let get = |field: &str| fields.and_then(|fields| fields.get(field));
    let by_hostname = get("byHostname").and_then(|spot| spot.bool()).unwrap_or(false);
    match word {
        Word::RoundRobin => Algorithm::RoundRobin,
        Word::Random => Algorithm::Random,
        Word::LeastRequest => {
            let choices = get("choices").and_then(|spot| spot.whole(2, 1000)).unwrap_or(2);
            let bias = get("bias").and_then(|spot| spot.parsed(units::decimal)).unwrap_or(1.0);
            Algorithm::LeastRequest { choices: u32::try_from(choices).unwrap_or(2), bias }
        }
        Word::RingHash => {
            let size =
                |field: &str, default| get(field).and_then(|spot| spot.whole(1, RING.1)).unwrap_or(default);
            let (min_size, max_size) = (size("minRing", RING.0), size("maxRing", RING.1));
            if min_size > max_size
                && let Some(spot) = get("minRing").or(get("maxRing"))
            {
                spot.error(format!("the least ring ({min_size}) is larger than the largest ({max_size})"));
            }
            let function = get("hash").and_then(|spot| spot.word(&FUNCTIONS)).unwrap_or(HashFunction::XxHash);
            Algorithm::RingHash { min_size, max_size, function, by_hostname }
        }
        Word::Maglev => {
            let size = get("tableSize").and_then(|spot| {
                let size = spot.whole(2, MOST_TABLE)?;
                if !is_prime(size) {
                    spot.error(format!("a maglev table's size is a prime, {size} is none"));
                }
                Some(size)
            });
            Algorithm::Maglev { table_size: size.unwrap_or(TABLE), by_hostname }
        }
    }
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

fn slow_start(spot: &Spot) -> Option<SlowStart> {
    let fields = spot.fields(&SLOW_START)?;
    let window = fields.need("window").and_then(|spot| spot.parsed(units::some_time));
    let aggression = fields.get("aggression").and_then(|spot| {
        let aggression = spot.parsed(units::decimal)?;
        if aggression <= 0.0 {
            spot.error("must be more than 0");
        }
        Some(aggression)
    });
    let min_weight = fields.get("minWeight").and_then(|spot| spot.parsed(units::parts));
    Some(SlowStart {
        window: window?,
        aggression: aggression.unwrap_or(1.0),
        min_weight: f64::from(min_weight.unwrap_or(1_000)) / 10_000.0,
    })
}
