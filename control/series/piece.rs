//! A block of the past as bytes, for a file.
//!
//! Every text is written once and every number as short as it is. What stands at
//! the end tells whether the rest is whole: bytes that are not are no block, and
//! none of them does harm.

use std::collections::HashMap;
use std::sync::Arc;

use super::labels::Labels;
use super::part::BLOCK;

const MAGIC: &[u8] = b"serin past 1\n";

/// The moments of a block, and each series' values at them.
#[derive(Debug, PartialEq)]
pub struct Piece {
    pub times: Arc<[i64]>,
    pub series: Vec<(Labels, Arc<[u8]>)>,
}

impl Piece {
    pub fn last(&self) -> Option<i64> {
        self.times.last().copied()
    }

    pub fn encode(&self) -> Vec<u8> {
        let (mut texts, mut body) = (Texts::default(), Vec::new());
        put(&mut body, self.times.len() as u64);
        let mut before = 0;
        for time in self.times.iter() {
            put(&mut body, time.wrapping_sub(before) as u64);
            before = *time;
        }
        put(&mut body, self.series.len() as u64);
        for (labels, values) in &self.series {
            put(&mut body, labels.iter().count() as u64);
            for (name, value) in labels.iter() {
                put(&mut body, texts.place(name));
                put(&mut body, texts.place(value));
            }
            put(&mut body, values.len() as u64);
            body.extend_from_slice(values);
        }
        let mut bytes = MAGIC.to_vec();
        put(&mut bytes, texts.all.len() as u64);
        for text in texts.all {
            put(&mut bytes, text.len() as u64);
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.append(&mut body);
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes
    }

    /// `None` where these are not the whole bytes of one.
    pub fn decode(bytes: &[u8]) -> Option<Piece> {
        let (bytes, sum) = bytes.split_last_chunk::<8>()?;
        if checksum(bytes) != u64::from_le_bytes(*sum) {
            return None;
        }
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let mut texts: Vec<Arc<str>> = Vec::new();
        for _ in 0..take(&mut rest)? {
            texts.push(std::str::from_utf8(slice(&mut rest)?).ok()?.into());
        }
        let mut times: Vec<i64> = Vec::new();
        let count = take(&mut rest)?;
        // One more where a block of the past was given its end.
        if count > BLOCK as u64 + 1 {
            return None;
        }
        for _ in 0..count {
            let before = times.last().copied();
            let time = before.unwrap_or(0).wrapping_add(take(&mut rest)? as i64);
            if before.is_some_and(|before| before >= time) {
                return None;
            }
            times.push(time);
        }
        let mut series = Vec::new();
        for _ in 0..take(&mut rest)? {
            let mut pairs = Vec::new();
            for _ in 0..take(&mut rest)? {
                let mut text = || texts.get(usize::try_from(take(&mut rest)?).ok()?).cloned();
                pairs.push((text()?, text()?));
            }
            series.push((Labels::new(pairs), slice(&mut rest)?.into()));
        }
        rest.is_empty().then(|| Piece { times: times.into(), series })
    }
}

#[derive(Default)]
struct Texts<'t> {
    places: HashMap<&'t str, u64>,
    all: Vec<&'t str>,
}

impl<'t> Texts<'t> {
    fn place(&mut self, text: &'t str) -> u64 {
        *self.places.entry(text).or_insert_with(|| {
            self.all.push(text);
            self.all.len() as u64 - 1
        })
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn slice<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = usize::try_from(take(bytes)?).ok()?;
    bytes.split_off(..length)
}

/// FNV-1a: against torn files, not against people.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use rand::rngs::Xoshiro256PlusPlus;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn piece() -> Piece {
        let labels = |name: &str, le: &str| Labels::default().with("__name__", name).with("le", le);
        let values = |bytes: &[u8]| -> Arc<[u8]> { bytes.into() };
        Piece {
            times: [1_795_900_000_000, 1_795_900_001_000, 1_795_900_001_900].into(),
            series: vec![
                (labels("a_bucket", "0.5"), values(&[1, 2, 200])),
                (labels("a_bucket", "+Inf"), values(&[])),
                (labels("b", ""), values(&[0; 300])),
            ],
        }
    }

    #[test]
    fn a_block_is_what_it_was() {
        assert_eq!(Piece::decode(&piece().encode()), Some(piece()));
    }

    #[test]
    fn torn_and_turned_bytes_are_no_block_and_no_harm() {
        let whole = piece().encode();
        (0..whole.len()).for_each(|length| assert_eq!(Piece::decode(&whole[..length]), None));
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        for _ in 0..20_000 {
            let mut bytes = whole[..whole.len() - 8].to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(MAGIC.len()..bytes.len());
                bytes[at] = random.random();
            }
            // As if it were meant, so that what reads it is put to the test.
            let sum = checksum(&bytes).to_le_bytes();
            bytes.extend_from_slice(&sum);
            let _ = Piece::decode(&bytes);
        }
    }
}
