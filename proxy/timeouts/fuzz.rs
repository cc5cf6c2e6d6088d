//! What must hold of a gRPC caller's timeout for any bytes.

use super::*;

const UNITS: [(u8, u128); 6] = [
    (b'H', 3_600_000_000_000),
    (b'M', 60_000_000_000),
    (b'S', 1_000_000_000),
    (b'm', 1_000_000),
    (b'u', 1_000),
    (b'n', 1),
];

/// It is the number times its unit, never for ever; said in a larger unit it is
/// the same; and no caller may wait longer than the route lets it.
pub fn grpc_timeout(bytes: &[u8]) {
    if let Some(us) = grpc_timeout_us(bytes) {
        let (unit, digits) = bytes.split_last().expect("nothing is no time");
        let (_, ns) = UNITS.into_iter().find(|(known, _)| known == unit).expect("a unit");
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'));
        assert_eq!(u128::from(us), (number * ns / 1_000).max(1));
        for (unit, ns) in UNITS {
            let (count, rest) = (u128::from(us) * 1_000 / ns, u128::from(us) * 1_000 % ns);
            if rest == 0 && count < 100_000_000 {
                let said = format!("{count}{}", char::from(unit));
                assert_eq!(grpc_timeout_us(said.as_bytes()), Some(us), "{said}");
            }
        }
    }
    for most_us in [1, 1_000_000, u64::MAX] {
        let life_us = Timeouts::default().said_by_grpc(Some(bytes), most_us).life_us;
        assert!((1..=most_us).contains(&life_us), "{life_us} of {most_us}");
    }
}
