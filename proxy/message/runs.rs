//! Where runs of bytes of one class end: a name, a target, a value. Sixteen bytes are
//! looked at together, by what every processor of a kind can do.

use crate::text;

const NAME: u8 = 1;
const TARGET: u8 = 2;

/// What a byte can be part of.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = byte as u8;
        let mark = matches!(
            letter,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if letter.is_ascii_alphanumeric() || mark {
            classes[byte] |= NAME;
        }
        if text::is_target(letter) {
            classes[byte] |= TARGET;
        }
        byte += 1;
    }
    classes
};

/// The first byte from `from` on that cannot stand in a name.
pub fn name_end(head: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(bytes) = head.get(at..).and_then(|rest| rest.first_chunk()) {
        let words = wide::words(bytes).trailing_ones() as usize;
        at += words;
        match head.get(at) {
            // What nearly all names end with.
            Some(b':') if words < WIDTH => return at,
            Some(byte) if words < WIDTH && CLASSES[usize::from(*byte)] & NAME == 0 => return at,
            // One of the rarer marks, or all sixteen were words.
            Some(_) => at += usize::from(words < WIDTH),
            None => return at,
        }
    }
    run_of(head, at, NAME)
}

/// The first byte from `from` on that cannot stand in a target.
pub fn target_end(head: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(bytes) = head.get(at..).and_then(|rest| rest.first_chunk()) {
        let count = wide::targets(bytes).trailing_ones() as usize;
        if count < WIDTH {
            return at + count;
        }
        at += WIDTH;
    }
    run_of(head, at, TARGET)
}

/// The first byte from `at` on that cannot stand in a value: no control
/// characters but the tab.
pub fn value_end(head: &[u8], mut at: usize) -> usize {
    while let Some(bytes) = head.get(at..).and_then(|rest| rest.first_chunk()) {
        let plain = wide::controls(bytes).trailing_zeros() as usize;
        if plain >= WIDTH {
            at += WIDTH;
            continue;
        }
        at += plain;
        if bytes[plain] != b'\t' {
            return at;
        }
        at += 1;
    }
    let rest = head.get(at..).unwrap_or_default();
    let other = rest.iter().position(|byte| is_control(*byte) && *byte != b'\t');
    at + other.unwrap_or(rest.len())
}

/// Where the bytes of a class that begin at `from` end.
fn run_of(head: &[u8], from: usize, class: u8) -> usize {
    let rest = &head[from.min(head.len())..];
    let other = rest.iter().position(|byte| CLASSES[usize::from(*byte)] & class == 0);
    from + other.unwrap_or(rest.len())
}

const fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

const WIDTH: usize = 16;

/// One bit for each of sixteen bytes, the lowest for the first.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::WIDTH;

    /// Control characters, the tab among them.
    pub fn controls(bytes: &[u8; WIDTH]) -> u32 {
        // SAFETY: SSE2 is part of the architecture, and sixteen bytes may be read.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let low = is_at_most(bytes, 0x1f);
            _mm_movemask_epi8(_mm_or_si128(low, is(bytes, 0x7f))) as u32
        }
    }

    /// Letters, digits, hyphens and underscores.
    pub fn words(bytes: &[u8; WIDTH]) -> u32 {
        // SAFETY: as above.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let small = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
            let letters = is_at_most(_mm_sub_epi8(small, _mm_set1_epi8(b'a' as i8)), 25);
            let digits = is_at_most(_mm_sub_epi8(bytes, _mm_set1_epi8(b'0' as i8)), 9);
            let joints = _mm_or_si128(is(bytes, b'-'), is(bytes, b'_'));
            _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(letters, digits), joints)) as u32
        }
    }

    /// What a target is made of: all that can be seen, but for `" # < > \ ^ \` { | }`.
    pub fn targets(bytes: &[u8; WIDTH]) -> u32 {
        // SAFETY: as above.
        unsafe {
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let seen = is_at_most(_mm_sub_epi8(bytes, _mm_set1_epi8(0x21)), 0x7e - 0x21);
            // Each of these pairs differs in one bit.
            let but = |bit: u8| _mm_and_si128(bytes, _mm_set1_epi8(!bit as i8));
            let quotes = is(but(0x01), b'"');
            let angles = is(but(0x02), b'<');
            let slants = is(but(0x02), b'\\');
            let braces = is(but(0x01), b'|');
            let others = _mm_or_si128(is(bytes, b'`'), is(bytes, b'{'));
            let odd = _mm_or_si128(_mm_or_si128(quotes, angles), _mm_or_si128(slants, braces));
            _mm_movemask_epi8(_mm_andnot_si128(_mm_or_si128(odd, others), seen)) as u32
        }
    }

    fn is_at_most(bytes: __m128i, most: u8) -> __m128i {
        // SAFETY: as above.
        unsafe { _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(most as i8)), bytes) }
    }

    fn is(bytes: __m128i, byte: u8) -> __m128i {
        // SAFETY: as above.
        unsafe { _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8)) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod wide {
    use super::WIDTH;

    pub fn controls(bytes: &[u8; WIDTH]) -> u32 {
        bits(bytes, super::is_control)
    }

    pub fn words(bytes: &[u8; WIDTH]) -> u32 {
        bits(bytes, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    }

    pub fn targets(bytes: &[u8; WIDTH]) -> u32 {
        bits(bytes, crate::text::is_target)
    }

    fn bits(bytes: &[u8; WIDTH], of: impl Fn(u8) -> bool) -> u32 {
        bytes.iter().enumerate().fold(0, |bits, (at, byte)| bits | u32::from(of(*byte)) << at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_at_the_first_control_character() {
        for stop in (0..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
            for at in 0..40 {
                let mut bytes = vec![b'x'; 44];
                bytes[at] = stop;
                assert_eq!(value_end(&bytes, 0), at, "{stop:#x} at {at}");
            }
        }
        let tolerated: Vec<u8> = (0x20..0x7f).chain(0x80..=0xff).chain(*b"\t\tend").collect();
        for from in 0..=tolerated.len() {
            assert_eq!(value_end(&tolerated, from), tolerated.len());
        }
        assert_eq!(value_end(b"x", 9), 9, "nothing is behind the end");
    }

    #[test]
    fn names_and_targets_end_at_the_first_byte_that_is_of_none() {
        for (class, end_of) in [(NAME, name_end as fn(&[u8], usize) -> usize), (TARGET, target_end)] {
            for byte in 0..=u8::MAX {
                let belongs = CLASSES[usize::from(byte)] & class != 0;
                for at in 0..40 {
                    let mut bytes = vec![b'n'; 44];
                    bytes[at] = byte;
                    let end = if belongs { bytes.len() } else { at };
                    assert_eq!(end_of(&bytes, 0), end, "{byte:#x} at {at}");
                    assert_eq!(end_of(&bytes[..at + 1], 0), end.min(at + 1), "{byte:#x} last");
                }
            }
            assert_eq!(end_of(b"n", 9), 9);
        }
    }
}
