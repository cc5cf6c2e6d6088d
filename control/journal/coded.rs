//! Looks as bytes: when somebody looked and what was new, exactly and in little space.
//!
//! Numbers are LEB128, differences zigzag. A generation and its coin are written
//! once and then called by their place. Where nothing has moved a look is three
//! bytes. What is read may be anybody's: it is looks or an error.

use crate::clock::Moment;
use crate::judge::evidence::{Answers, ArmDelta, Evidence, GenerationDelta, Pairs, StratumDelta};
use crate::outside::hook::Word;

const STICKY: u8 = 1;
const GENERATIONS: u8 = 2;
const PAIRS: u8 = 4;
const OTHERS: u8 = 8;
const WORDS: u8 = 16;
const ANSWERS: u8 = 32;
const OUTSIDE: u8 = 64;

/// Bits of an arm that has latencies, of all requests and of one of each user; the
/// others are its counters.
const LATENCY: u64 = 1 << 9;
const FIRST: u64 = 1 << 10;
const COUNTERS: [u64; 10] = [1, 1 << 1, 1 << 2, 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 11];

/// Bit of a generation that has parts which are counted apart; the lower ones are
/// its arms.
const STRATA: u8 = 1 << 3;

/// What names a generation: its id, and the bits of its coin for all and for those
/// whose toss is fresh.
type Named = (u64, u64, u64);

#[derive(Clone, Debug, Default)]
pub struct Coder {
    bytes: Vec<u8>,
    looks: u64,
    at: u64,
    /// Generations, in the order in which they came.
    known: Vec<Named>,
}

impl Coder {
    pub fn push(&mut self, now: Moment, evidence: &Evidence) {
        self.signed(now.0.wrapping_sub(self.at));
        (self.at, self.looks) = (now.0, self.looks + 1);
        let Evidence { generations, sticky, words, outside, pairs, others, answers } = evidence;
        let has_pairs = *pairs != Pairs::default();
        let flags = [
            (*sticky, STICKY),
            (!generations.is_empty(), GENERATIONS),
            (has_pairs, PAIRS),
            (*others > 0, OTHERS),
            (!words.is_empty(), WORDS),
            (answers.is_some(), ANSWERS),
            (!outside.is_empty(), OUTSIDE),
        ];
        self.bytes.push(flags.iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum());
        if !generations.is_empty() {
            self.number(generations.len() as u64);
            generations.iter().for_each(|delta| self.generation(delta));
        }
        if has_pairs {
            let Pairs { canary_only, primary_only, neither, both } = *pairs;
            [canary_only, primary_only, neither, both].into_iter().for_each(|count| self.number(count));
        }
        if *others > 0 {
            self.number(*others);
        }
        if !words.is_empty() {
            let text = serde_json::to_vec(words).expect("words are plain data");
            self.number(text.len() as u64);
            self.bytes.extend(text);
        }
        if let Some(Answers { compared, canary_only, log_factor, differing, places }) = answers {
            [*compared, *canary_only, *differing].into_iter().for_each(|count| self.number(count));
            self.bytes.extend(log_factor.to_bits().to_le_bytes());
            self.number(places.len() as u64);
            places.iter().for_each(|place| self.text(place));
        }
        if !outside.is_empty() {
            self.text(&serde_json::to_string(outside).expect("answers are plain data"));
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many were pushed.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    fn generation(&mut self, delta: &GenerationDelta) {
        let GenerationDelta { id, w, fresh, canary, primary, canary_forced, strata } = delta;
        let named = (*id, w.to_bits(), fresh.to_bits());
        let place = self.known.iter().rposition(|known| *known == named);
        self.number(place.unwrap_or(self.known.len()) as u64);
        if place.is_none() {
            self.known.push(named);
            self.number(*id);
            self.bytes.extend(named.1.to_le_bytes());
            self.bytes.extend(named.2.to_le_bytes());
        }
        let arms = [canary, primary, canary_forced];
        let nothing = ArmDelta::default();
        let told = arms.iter().enumerate().filter(|(_, arm)| ***arm != nothing);
        let told: u8 = told.map(|(at, _)| 1 << at).sum();
        self.bytes.push(told | if strata.is_empty() { 0 } else { STRATA });
        for arm in arms.into_iter().filter(|arm| **arm != nothing) {
            self.arm(arm);
        }
        if !strata.is_empty() {
            self.number(strata.len() as u64);
        }
        for StratumDelta { name, canary, primary } in strata {
            self.text(name);
            self.arm(canary);
            self.arm(primary);
        }
    }

    fn arm(&mut self, arm: &ArmDelta) {
        let counters = counters(arm);
        let told = counters.iter().enumerate().filter(|(_, count)| **count > 0);
        let mask: u64 = told.map(|(at, _)| COUNTERS[at]).sum();
        let histograms = [(LATENCY, &arm.latency), (FIRST, &arm.first)];
        let told = histograms.iter().filter(|(_, buckets)| !buckets.is_empty());
        self.number(mask | told.map(|(bit, _)| bit).sum::<u64>());
        counters.into_iter().filter(|count| *count > 0).for_each(|count| self.number(count));
        for (_, buckets) in histograms.iter().filter(|(_, buckets)| !buckets.is_empty()) {
            self.buckets(buckets);
        }
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend(text.as_bytes());
    }

    fn buckets(&mut self, buckets: &[(u32, u64)]) {
        self.number(buckets.len() as u64);
        let mut last = 0;
        for (bucket, count) in buckets {
            self.signed(u64::from(*bucket).wrapping_sub(last));
            self.number(*count);
            last = u64::from(*bucket);
        }
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    /// A difference that may be less than nothing.
    fn signed(&mut self, difference: u64) {
        let signed = difference as i64;
        self.number(((signed << 1) ^ (signed >> 63)) as u64);
    }
}

/// In the order of their bits.
fn counters(arm: &ArmDelta) -> [u64; 10] {
    let ArmDelta {
        dispatched,
        ok,
        failed,
        aborted,
        slow,
        failed_revealed,
        failed_units,
        first_failed,
        load,
        load_failed,
        latency: _,
        first: _,
    } = *arm;
    [dispatched, ok, failed, aborted, slow, failed_revealed, failed_units, load, load_failed, first_failed]
}

/// What was looked at and when, one after the other. After an error comes nothing.
pub struct Decoder<'a> {
    rest: &'a [u8],
    at: u64,
    known: Vec<Named>,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8]) -> Decoder<'a> {
        Decoder { rest: bytes, at: 0, known: Vec::new() }
    }

    fn look(&mut self) -> Result<(Moment, Evidence), String> {
        self.at = self.at.wrapping_add(self.signed()?);
        let flags = self.byte()?;
        let mut evidence = Evidence { sticky: flags & STICKY != 0, ..Evidence::default() };
        if flags & GENERATIONS != 0 {
            for _ in 0..self.number()? {
                let delta = self.generation()?;
                evidence.generations.push(delta);
            }
        }
        if flags & PAIRS != 0 {
            evidence.pairs = Pairs {
                canary_only: self.number()?,
                primary_only: self.number()?,
                neither: self.number()?,
                both: self.number()?,
            };
        }
        if flags & OTHERS != 0 {
            evidence.others = self.number()?;
        }
        if flags & WORDS != 0 {
            let length = self.number()?;
            let text = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
            let words: Vec<Word> = serde_json::from_slice(text).map_err(|cause| cause.to_string())?;
            evidence.words = words;
        }
        if flags & ANSWERS != 0 {
            evidence.answers = Some(self.answers()?);
        }
        if flags & OUTSIDE != 0 {
            let text = self.text()?;
            evidence.outside = serde_json::from_str(&text).map_err(|cause| cause.to_string())?;
        }
        Ok((Moment(self.at), evidence))
    }

    fn answers(&mut self) -> Result<Answers, String> {
        let [compared, canary_only, differing] = [self.number()?, self.number()?, self.number()?];
        let log_factor = f64::from_bits(self.bits()?);
        let mut places = Vec::new();
        for _ in 0..self.number()? {
            places.push(self.text()?);
        }
        Ok(Answers { compared, canary_only, log_factor, differing, places })
    }

    fn generation(&mut self) -> Result<GenerationDelta, String> {
        let place = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if place == self.known.len() {
            let named = (self.number()?, self.bits()?, self.bits()?);
            self.known.push(named);
        }
        let (id, w, fresh) = *self.known.get(place).ok_or("a generation that was never named")?;
        let (w, fresh) = (f64::from_bits(w), f64::from_bits(fresh));
        let mut delta = GenerationDelta { id, w, fresh, ..GenerationDelta::default() };
        let told = self.byte()?;
        let arms = [&mut delta.canary, &mut delta.primary, &mut delta.canary_forced];
        for (at, arm) in arms.into_iter().enumerate() {
            if told & (1 << at) != 0 {
                *arm = self.arm()?;
            }
        }
        if told & STRATA != 0 {
            for _ in 0..self.number()? {
                let (name, canary, primary) = (self.text()?, self.arm()?, self.arm()?);
                delta.strata.push(StratumDelta { name, canary, primary });
            }
        }
        Ok(delta)
    }

    fn arm(&mut self) -> Result<ArmDelta, String> {
        let mask = self.number()?;
        let mut counters = [0; 10];
        for (at, counter) in counters.iter_mut().enumerate() {
            if mask & COUNTERS[at] != 0 {
                *counter = self.number()?;
            }
        }
        let [
            dispatched,
            ok,
            failed,
            aborted,
            slow,
            failed_revealed,
            failed_units,
            load,
            load_failed,
            first_failed,
        ] = counters;
        let latency = if mask & LATENCY != 0 { self.buckets()? } else { Vec::new() };
        let first = if mask & FIRST != 0 { self.buckets()? } else { Vec::new() };
        Ok(ArmDelta {
            dispatched,
            ok,
            failed,
            aborted,
            slow,
            failed_revealed,
            failed_units,
            first_failed,
            load,
            load_failed,
            latency,
            first,
        })
    }

    fn buckets(&mut self) -> Result<Vec<(u32, u64)>, String> {
        let mut buckets = Vec::new();
        let mut bucket = 0_u64;
        for _ in 0..self.number()? {
            bucket = bucket.wrapping_add(self.signed()?);
            let named = u32::try_from(bucket).map_err(|_| "a latency that cannot be".to_owned())?;
            buckets.push((named, self.number()?));
        }
        Ok(buckets)
    }

    fn text(&mut self) -> Result<String, String> {
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        String::from_utf8(self.take(length)?.to_vec()).map_err(|cause| cause.to_string())
    }

    fn bits(&mut self) -> Result<u64, String> {
        let bits = self.take(8)?.try_into().map_err(|_| "a coin of another length".to_owned())?;
        Ok(u64::from_le_bytes(bits))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("they end in the middle of a look")?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number without an end".to_owned())
    }

    fn signed(&mut self) -> Result<u64, String> {
        let number = self.number()?;
        Ok((number >> 1) ^ (number & 1).wrapping_neg())
    }
}

impl Iterator for Decoder<'_> {
    type Item = Result<(Moment, Evidence), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let look = self.look();
        if look.is_err() {
            self.rest = &[];
        }
        Some(look)
    }
}

/// What must hold of any bytes: they are looks that are written and read again as
/// the same, or an error.
pub fn any_bytes(bytes: &[u8]) {
    let Ok(looks) = Decoder::new(bytes).collect::<Result<Vec<_>, _>>() else { return };
    let mut coder = Coder::default();
    looks.iter().for_each(|(at, evidence)| coder.push(*at, evidence));
    let again: Result<Vec<_>, _> = Decoder::new(coder.bytes()).collect();
    // By text: a coin may be no number at all.
    assert_eq!(format!("{again:?}"), format!("{:?}", Ok::<_, String>(looks)));
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;
    use crate::judge::samples::{Arm, Number, Outside, Sample};
    use crate::outside::hook::{Answer, HookType};

    fn arm(random: &mut Xoshiro256PlusPlus) -> ArmDelta {
        let mut count =
            || if random.random::<bool>() { random.random::<u64>() >> random.random_range(0..64) } else { 0 };
        ArmDelta {
            dispatched: count(),
            ok: count(),
            failed: count(),
            aborted: count(),
            slow: count(),
            failed_revealed: count(),
            failed_units: count(),
            first_failed: count(),
            load: count(),
            load_failed: count(),
            latency: (0..count() % 9).map(|_| (count() as u32, count())).collect(),
            first: (0..count() % 3).map(|_| (count() as u32, count())).collect(),
        }
    }

    fn evidence(random: &mut Xoshiro256PlusPlus) -> Evidence {
        let coins = [0.0, 0.05, 1.0 / 3.0, 1.0, -0.0, f64::MIN_POSITIVE];
        let generations = random.random_range(0..4);
        let generation = |_| GenerationDelta {
            id: random.random_range(0..5) * 1_000_000_007,
            w: coins[random.random_range(0..coins.len())],
            fresh: coins[random.random_range(0..coins.len())],
            canary: arm(random),
            primary: arm(random),
            canary_forced: if random.random::<bool>() { arm(random) } else { ArmDelta::default() },
            strata: (0..random.random_range(0..3))
                .map(|n| StratumDelta { name: format!("é{n}"), canary: arm(random), primary: arm(random) })
                .collect(),
        };
        let generations = (0..generations).map(generation).collect();
        let word = Word { on: HookType::Rollout, step: 2, answer: Answer::Closed, why: "\"é\n".to_owned() };
        let answers = Answers {
            compared: random.random(),
            canary_only: 3,
            log_factor: -0.1 / 3.0,
            differing: 1,
            places: vec!["$.é".to_owned(), String::new()],
        };
        let figures = [0.1 + 0.2, f64::NEG_INFINITY, f64::MAX, -0.0].map(Number::from).to_vec();
        let said = |sample| Outside { name: "é".to_owned(), arm: Arm::Primary, at: Moment(7), sample };
        let said = [
            said(Sample::Numbers(figures)),
            said(Sample::Said(serde_json::json!({"a": [1, 2.5, null, "b"]}))),
            said(Sample::Error("no answer".to_owned())),
            said(Sample::Absent),
        ];
        Evidence {
            outside: said[..random.random_range(0..=said.len())].to_vec(),
            answers: Some(answers).filter(|_| random.random()),
            generations,
            sticky: random.random(),
            words: vec![word; random.random_range(0..2)],
            pairs: Pairs { neither: random.random_range(0..3), ..Pairs::default() },
            others: random.random_range(0..2) * u64::MAX,
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        for _ in 0..200 {
            let mut coder = Coder::default();
            let mut looks = Vec::new();
            for _ in 0..random.random_range(1..20) {
                // Time that goes back is no business of ours.
                let look =
                    (Moment(random.random::<u64>() >> random.random_range(0..64)), evidence(&mut random));
                coder.push(look.0, &look.1);
                looks.push(look);
            }
            assert_eq!(coder.looks(), looks.len() as u64);
            let read: Result<Vec<_>, _> = Decoder::new(coder.bytes()).collect();
            assert_eq!(read, Ok(looks));
        }
    }

    #[test]
    fn a_look_at_nothing_new_is_three_bytes() {
        let mut coder = Coder::default();
        coder.push(Moment(1_700_000_000_000), &Evidence::default());
        let first = coder.bytes().len();
        (1..=100).for_each(|n| coder.push(Moment(1_700_000_000_000 + n * 500), &Evidence::default()));
        assert_eq!(coder.bytes().len() - first, 300);
    }

    #[test]
    fn hostile_bytes_are_looks_or_an_error() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        let mut errors = 0;
        for _ in 0..20_000 {
            let mut coder = Coder::default();
            (0..3).for_each(|n| coder.push(Moment(n * 100), &evidence(&mut random)));
            let mut bytes = coder.bytes().to_vec();
            for _ in 0..random.random_range(1..4) {
                match (random.random_range(0..3), bytes.len()) {
                    (_, 0) => bytes.push(random.random()),
                    (0, length) => bytes[random.random_range(0..length)] = random.random(),
                    (1, length) => bytes.truncate(random.random_range(0..length)),
                    (_, length) => bytes.insert(random.random_range(0..length), random.random()),
                }
            }
            any_bytes(&bytes);
            errors += u32::from(Decoder::new(&bytes).any(|look| look.is_err()));
        }
        assert!(errors > 1_000, "{errors}");
    }
}
