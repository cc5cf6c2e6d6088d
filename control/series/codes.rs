//! The values of one series in one block, as bytes.
//!
//! Counters mostly go on as they did, or not at all, so what is written is how a
//! value differs from the one that was to be expected: the last plus the last
//! step. Steps are of whole numbers or of millionths (durations in seconds are
//! sums of microseconds); what is neither is written in full. Every value comes
//! back bit for bit.

const RUN: u8 = 0;
const ABSENT: u8 = 1;
const WHOLE: u8 = 2;
const MILLIONTHS: u8 = 3;
const FULL: u8 = 4;
/// Bytes from here on are small steps of whole numbers.
const SMALL: u8 = 8;
const LEAST_SMALL: i64 = -8;
const MOST_SMALL: i64 = LEAST_SMALL + (u8::MAX - SMALL) as i64;
/// Whole numbers up to here are exact as floats.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Unit {
    Whole,
    Millionth,
}

/// What is known after each value, on both sides.
#[derive(Clone, Copy, Debug)]
struct Last {
    value: f64,
    unit: Unit,
    step: i64,
}

impl Default for Last {
    fn default() -> Last {
        Last { value: 0.0, unit: Unit::Whole, step: 0 }
    }
}

impl Last {
    fn expected(self) -> f64 {
        match self.step {
            0 => self.value,
            step => from_units(units(self.value, self.unit).unwrap_or(0).wrapping_add(step), self.unit),
        }
    }

    fn step(&mut self, unit: Unit, step: i64) {
        let base = units(self.value, unit).unwrap_or(0);
        *self = Last { value: from_units(base.wrapping_add(step), unit), unit, step };
    }
}

/// `None` where that would not bring the value back.
fn units(value: f64, unit: Unit) -> Option<i64> {
    let scaled = match unit {
        Unit::Whole => value,
        Unit::Millionth => (value * 1e6).round(),
    };
    if scaled.is_nan() || scaled.abs() >= EXACT || scaled.fract() != 0.0 {
        return None;
    }
    let units = scaled as i64;
    (from_units(units, unit).to_bits() == value.to_bits()).then_some(units)
}

fn from_units(units: i64, unit: Unit) -> f64 {
    match unit {
        Unit::Whole => units as f64,
        Unit::Millionth => units as f64 / 1e6,
    }
}

/// The open block of one series.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    /// Moments that the bytes and the run cover.
    moments: u32,
    run: u32,
    last: Last,
}

impl Encoder {
    /// The value at this moment of the block; moments passed over had none.
    pub fn put(&mut self, at: usize, value: f64) {
        self.miss(at);
        if (self.moments as usize) > at {
            return;
        }
        self.moments += 1;
        if value.to_bits() == self.last.expected().to_bits() {
            self.run += 1;
            self.last.value = value;
            return;
        }
        self.end_run();
        let base = |unit| units(self.last.value, unit).unwrap_or(0);
        if let Some(whole) = units(value, Unit::Whole) {
            let step = whole.wrapping_sub(base(Unit::Whole));
            match (LEAST_SMALL..=MOST_SMALL).contains(&step) {
                true => self.bytes.push(SMALL + (step - LEAST_SMALL) as u8),
                false => self.token(WHOLE, zigzag(step)),
            }
            self.last.step(Unit::Whole, step);
        } else if let Some(millionths) = units(value, Unit::Millionth) {
            let step = millionths.wrapping_sub(base(Unit::Millionth));
            self.token(MILLIONTHS, zigzag(step));
            self.last.step(Unit::Millionth, step);
        } else {
            self.bytes.push(FULL);
            self.bytes.extend_from_slice(&value.to_bits().to_le_bytes());
            self.last = Last { value, ..Last::default() };
        }
    }

    /// The same value at every moment until this one that has none yet; as if it
    /// were put at each.
    pub fn hold(&mut self, until: usize, value: f64) {
        while (self.moments as usize) < until {
            if self.last.expected().to_bits() == value.to_bits() && self.last.step == 0 {
                self.run += (until - self.moments as usize) as u32;
                self.moments = until as u32;
                self.last.value = value;
            } else {
                self.put(self.moments as usize, value);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.moments == 0
    }

    /// Memory beside its own fields.
    pub fn len(&self) -> usize {
        self.bytes.capacity()
    }

    /// The whole block so far, of so many moments; until one of them a value may
    /// have held that was not put.
    pub fn snapshot(&self, moments: usize, hold: Option<(usize, f64)>) -> Vec<u8> {
        let mut whole = Encoder { bytes: self.bytes.clone(), ..*self };
        if let Some((until, value)) = hold {
            whole.hold(until, value);
        }
        whole.close(moments)
    }

    /// Ends the block; the next begins.
    pub fn close(&mut self, moments: usize) -> Vec<u8> {
        if self.is_empty() {
            return Vec::new();
        }
        self.miss(moments);
        self.end_run();
        let bytes = std::mem::take(&mut self.bytes);
        *self = Encoder::default();
        bytes
    }

    fn miss(&mut self, at: usize) {
        let missed = (at as u64).saturating_sub(u64::from(self.moments));
        if missed > 0 {
            self.end_run();
            self.token(ABSENT, missed);
            self.moments = at as u32;
        }
    }

    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        let Last { value, unit, step } = self.last;
        let is_small = (LEAST_SMALL..=MOST_SMALL).contains(&step);
        // A short run is shorter as its steps.
        if run <= 2 && unit == Unit::Whole && is_small && units(value, unit).is_some() {
            let small = SMALL + (step - LEAST_SMALL) as u8;
            self.bytes.extend(std::iter::repeat_n(small, run as usize));
        } else if run > 0 {
            self.token(RUN, u64::from(run));
        }
    }

    fn token(&mut self, token: u8, mut number: u64) {
        self.bytes.push(token);
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

/// Calls for each of so many moments with its value, if it has one.
pub fn decode(bytes: &[u8], moments: usize, mut tell: impl FnMut(usize, Option<f64>)) {
    let mut rest = bytes;
    let mut last = Last::default();
    let mut at = 0;
    while at < moments {
        let Some(token) = take(&mut rest) else { break };
        let is_run = matches!(token, RUN | ABSENT);
        match token {
            RUN | ABSENT => {
                for _ in 0..number(&mut rest).min((moments - at) as u64) {
                    if token == RUN {
                        last.value = last.expected();
                    }
                    tell(at, (token == RUN).then_some(last.value));
                    at += 1;
                }
            }
            WHOLE => last.step(Unit::Whole, unzigzag(number(&mut rest))),
            MILLIONTHS => last.step(Unit::Millionth, unzigzag(number(&mut rest))),
            small if small >= SMALL => last.step(Unit::Whole, i64::from(small - SMALL) + LEAST_SMALL),
            _ => {
                let mut bits = [0; 8];
                bits.iter_mut().for_each(|byte| *byte = take(&mut rest).unwrap_or_default());
                last = Last { value: f64::from_bits(u64::from_le_bytes(bits)), ..Last::default() };
            }
        }
        if !is_run {
            tell(at, Some(last.value));
            at += 1;
        }
    }
    for at in at..moments {
        tell(at, None);
    }
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, others) = rest.split_first()?;
    *rest = others;
    Some(*first)
}

fn number(rest: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    while let Some(byte) = take(rest) {
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift = (shift + 7).min(63);
    }
    number
}

fn zigzag(number: i64) -> u64 {
    (number.wrapping_shl(1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn read(bytes: &[u8], moments: usize) -> Vec<Option<u64>> {
        let mut read = Vec::new();
        decode(bytes, moments, |at, value| {
            assert_eq!(at, read.len());
            read.push(value.map(f64::to_bits));
        });
        read
    }

    #[test]
    fn every_value_comes_back_bit_for_bit() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let odd = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324, 1e16, 0.1, -1e-6];
        for _ in 0..300 {
            let mut value = 0.0;
            let written: Vec<Option<f64>> = (0..500)
                .map(|_| {
                    value = match random.random_range(0..9) {
                        0 => odd[random.random_range(0..odd.len())],
                        1 => return None,
                        2 => value + random.random_range(-300..300) as f64,
                        3 => random.random_range(0..1_000_000_000_i64) as f64 / 1e6,
                        4 => random.random::<f64>(),
                        5 => random.random_range(i64::MIN..i64::MAX) as f64,
                        6 => value + 7.0,
                        _ => value,
                    };
                    Some(value)
                })
                .collect();
            let mut encoder = Encoder::default();
            for (at, value) in written.iter().enumerate() {
                if let Some(value) = value {
                    encoder.put(at, *value);
                    let so_far = read(&encoder.snapshot(at + 1, None), at + 1);
                    assert_eq!(so_far.last(), Some(&Some(value.to_bits())));
                }
            }
            let bits: Vec<_> = written.iter().map(|value| value.map(f64::to_bits)).collect();
            assert_eq!(read(&encoder.close(500), 500), bits);
            assert!(encoder.is_empty());
        }
    }

    #[test]
    fn a_value_that_holds_is_written_as_if_it_were_put_each_time() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(9);
        let values = [0.0, -0.0, f64::NAN, 3.0, 500.0, 503.0, 506.0, 1e-6, 0.1, 1e300];
        for _ in 0..300 {
            let (mut put, mut held) = (Encoder::default(), Encoder::default());
            let mut at = 0;
            while at < 200 {
                let value = values[random.random_range(0..values.len())];
                let until = at + random.random_range(1..40);
                (at..until).for_each(|at| put.put(at, value));
                held.put(at, value);
                assert_eq!(held.snapshot(until, Some((until, value))), put.snapshot(until, None));
                held.hold(until, value);
                at = until + random.random_range(0..3) * random.random_range(0..3);
            }
            assert_eq!(held.close(at), put.close(at));
        }
    }

    #[test]
    fn bytes_that_we_did_not_write_are_no_harm() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(8);
        for _ in 0..2000 {
            let bytes: Vec<u8> = (0..random.random_range(0..60)).map(|_| random.random()).collect();
            assert_eq!(read(&bytes, 100).len(), 100);
        }
    }
}
