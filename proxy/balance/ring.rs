//! A ketama ring with Envoy's keys, sizes and order, so that both send a hash to
//! the same endpoint.

use xxhash_rust::xxh64::xxh64;

use super::Keyed;
use super::murmur::murmur2;
use crate::model::HashFunction;

/// Points in order, each with the position of its entry.
#[derive(Debug, Default, PartialEq)]
pub struct Ring(Vec<(u64, u32)>);

impl Ring {
    /// The least entry gets a whole number of points, so that the ring has at
    /// least `min_size`, unless `max_size` forbids it.
    pub fn new(entries: &[Keyed<'_>], min_size: u64, max_size: u64, function: HashFunction) -> Ring {
        let least = entries.iter().map(|entry| entry.share).fold(f64::INFINITY, f64::min);
        if entries.is_empty() {
            return Ring::default();
        }
        let scale = ((least * min_size as f64).ceil() / least).min(max_size as f64);
        let mut points = Vec::with_capacity(scale.ceil() as usize);
        let (mut made, mut wanted) = (0.0, 0.0);
        for (position, entry) in entries.iter().enumerate() {
            wanted += scale * entry.share;
            let mut nth = 0u64;
            while made < wanted {
                let key = format!("{}_{nth}", entry.key);
                let hash = match function {
                    HashFunction::XxHash => xxh64(key.as_bytes(), 0),
                    HashFunction::MurmurHash2 => murmur2(key.as_bytes()),
                };
                points.push((hash, position as u32));
                nth += 1;
                made += 1.0;
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        Ring(points)
    }

    /// The entry at or after this hash, so many further on.
    pub fn find(&self, hash: u64, further: u32) -> Option<usize> {
        let at = self.0.partition_point(|(point, _)| *point < hash);
        let index = (at % self.0.len().max(1)).checked_add(further as usize)?.checked_rem(self.0.len())?;
        Some(self.0[index].1 as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_points_and_the_ring_closes() {
        let entries = [Keyed { key: "a", share: 0.25 }, Keyed { key: "b", share: 0.75 }];
        let ring = Ring::new(&entries, 1000, 8000, HashFunction::XxHash);
        let of_a = ring.0.iter().filter(|(_, position)| *position == 0).count();
        assert_eq!((of_a, ring.0.len()), (250, 1000));
        assert_eq!(ring.find(u64::MAX, 0), ring.find(0, 0), "past the last point comes the first");
        assert_eq!(Ring::new(&[], 10, 10, HashFunction::XxHash).find(1, 0), None);
    }
}
