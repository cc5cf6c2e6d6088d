//! Maglev's table, filled in Envoy's order.

use xxhash_rust::xxh64::xxh64;

use super::Keyed;

/// To each place the position of its entry.
#[derive(Debug, Default, PartialEq)]
pub struct Maglev(Vec<u32>);

const EMPTY: u32 = u32::MAX;

struct Filling {
    position: u32,
    share: f64,
    offset: u64,
    skip: u64,
    next: u64,
    target: f64,
}

impl Maglev {
    /// `size` is a prime.
    pub fn new(entries: &[Keyed<'_>], size: u64) -> Maglev {
        if entries.is_empty() {
            return Maglev::default();
        }
        let most = entries.iter().map(|entry| entry.share).fold(0.0, f64::max);
        let mut sorted: Vec<usize> = (0..entries.len()).collect();
        sorted.sort_by_key(|index| entries[*index].key);
        let mut fillings: Vec<Filling> = sorted
            .into_iter()
            .map(|index| Filling {
                position: index as u32,
                share: entries[index].share,
                offset: xxh64(entries[index].key.as_bytes(), 0) % size,
                skip: xxh64(entries[index].key.as_bytes(), 1) % (size - 1) + 1,
                next: 0,
                target: 0.0,
            })
            .collect();
        let mut table = vec![EMPTY; size as usize];
        let mut empty = table.len();
        for round in 1u64.. {
            for filling in &mut fillings {
                // The heaviest has its turn in every round, others in their share of rounds.
                if empty == 0 || round as f64 * filling.share < filling.target {
                    continue;
                }
                filling.target += most;
                let place = loop {
                    let place = filling.place(size);
                    filling.next += 1;
                    if table[place] == EMPTY {
                        break place;
                    }
                };
                table[place] = filling.position;
                empty -= 1;
            }
            if empty == 0 {
                break;
            }
        }
        Maglev(table)
    }

    /// The entry that this hash has; another one for a further try.
    pub fn find(&self, hash: u64, further: u32) -> Option<usize> {
        let hash = if further == 0 { hash } else { hash ^ (u64::MAX - u64::from(further) + 1) };
        let place = hash.checked_rem(self.0.len() as u64)?;
        Some(self.0[place as usize] as usize)
    }
}

impl Filling {
    fn place(&self, size: u64) -> usize {
        (self.offset.wrapping_add(self.skip.wrapping_mul(self.next)) % size) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_the_shares_and_all_are_taken() {
        let entries = [
            Keyed { key: "a", share: 0.5 },
            Keyed { key: "b", share: 0.25 },
            Keyed { key: "c", share: 0.25 },
        ];
        let table = Maglev::new(&entries, 65_537);
        let count = |position: u32| table.0.iter().filter(|other| **other == position).count();
        assert_eq!(count(EMPTY), 0);
        assert!(count(0).abs_diff(32_768) <= 2 && count(1).abs_diff(16_384) <= 2, "{}", count(0));
        assert_eq!(Maglev::new(&[], 251).find(7, 0), None);
    }
}
