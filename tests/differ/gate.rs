//! What may stop a request before anybody is asked: preflights, and faults put
//! in on purpose. Chance has no say: a fault meets all whom it fits, or nobody.

use super::table::{Condition, Text};
use crate::harness::Seeded;

#[derive(Clone, Debug, Default)]
pub struct Gates {
    pub cors: Option<Cors>,
    pub faults: Option<Faults>,
}

#[derive(Clone, Debug)]
pub struct Cors {
    pub origins: Vec<Text>,
    pub methods: Vec<&'static str>,
    pub headers: Vec<&'static str>,
    pub expose: Vec<&'static str>,
    pub max_age_s: Option<u64>,
    pub credentials: bool,
    pub private_network: bool,
    pub forwards_others: bool,
}

#[derive(Clone, Debug)]
pub struct Faults {
    pub when: Vec<Condition>,
    pub delay: Option<Delay>,
    pub abort: Option<Abort>,
}

#[derive(Clone, Debug)]
pub struct Delay {
    /// Otherwise the request's field says.
    pub ms: Option<u64>,
    pub all: bool,
}

#[derive(Clone, Debug)]
pub struct Abort {
    pub with: With,
    pub all: bool,
}

#[derive(Clone, Copy, Debug)]
pub enum With {
    Status(u16),
    Grpc(u32),
    Field,
}

pub const ORIGINS: [&str; 7] = [
    "http://a.example",
    "https://x.b.example",
    "http://a.example:8080",
    "HTTP://A.example",
    "null",
    "",
    "http://evil.example",
];
/// What a request says to be met by a fault.
pub const ASKS: [(&str, &str); 9] = [
    ("x-envoy-fault-abort-request", "503"),
    ("x-envoy-fault-abort-request", "418"),
    ("x-envoy-fault-abort-request", "99"),
    ("x-envoy-fault-abort-request", "some"),
    ("x-envoy-fault-abort-grpc-request", "5"),
    ("x-envoy-fault-abort-request-percentage", "0"),
    ("x-envoy-fault-delay-request", "15"),
    ("x-envoy-fault-delay-request", "-1"),
    ("x-envoy-fault-delay-request-percentage", "100"),
];

impl Gates {
    pub fn draw(dice: &mut Seeded, condition: impl FnOnce(&mut Seeded) -> Condition) -> Gates {
        let cors = dice.chance(15).then(|| cors(dice));
        let faults = dice.chance(10).then(|| faults(dice, condition));
        Gates { cors, faults }
    }
}

fn cors(dice: &mut Seeded) -> Cors {
    let origins = match dice.below(5) {
        0 => vec![Text::Exact("*".to_owned())],
        1 => vec![Text::Suffix(".b.example".to_owned()), Text::Exact("null".to_owned())],
        2 => vec![Text::Regex("https?://[a-z.]+".to_owned())],
        3 => vec![Text::Prefix("http://a.".to_owned())],
        _ => vec![Text::Exact("http://a.example".to_owned())],
    };
    let some = |dice: &mut Seeded, list: &[&'static str]| list[..dice.below(list.len() + 1)].to_vec();
    Cors {
        origins,
        methods: some(dice, &["GET", "PUT"]),
        headers: some(dice, &["x-a", "x-tenant"]),
        expose: some(dice, &["x-b"]),
        max_age_s: dice.chance(50).then_some(60),
        credentials: dice.chance(40),
        private_network: dice.chance(40),
        forwards_others: dice.chance(50),
    }
}

fn faults(dice: &mut Seeded, condition: impl FnOnce(&mut Seeded) -> Condition) -> Faults {
    let when = if dice.chance(40) { vec![condition(dice)] } else { Vec::new() };
    let delay = dice.chance(40).then(|| Delay { ms: dice.chance(60).then_some(20), all: dice.chance(80) });
    let abort = (delay.is_none() || dice.chance(50)).then(|| {
        let with = match dice.below(4) {
            0 => With::Grpc(dice.pick(&[5, 7, 14])),
            1 => With::Field,
            _ => With::Status(dice.pick(&[503, 418, 200, 599])),
        };
        Abort { with, all: dice.chance(80) }
    });
    Faults { when, delay, abort }
}
