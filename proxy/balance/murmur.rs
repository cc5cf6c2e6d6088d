//! MurmurHash2 for 64 bits, as libstdc++ has it and Envoy after it.

const SEED: u64 = 0xc70f_6907;
const MUL: u64 = 0xc6a4_a793_5bd1_e995;

pub fn murmur2(bytes: &[u8]) -> u64 {
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(MUL);
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight have eight"));
        hash = (hash ^ mixed(word.wrapping_mul(MUL)).wrapping_mul(MUL)).wrapping_mul(MUL);
    }
    if !rest.is_empty() {
        let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(MUL);
    }
    mixed(mixed(hash).wrapping_mul(MUL))
}

fn mixed(word: u64) -> u64 {
    word ^ (word >> 47)
}
