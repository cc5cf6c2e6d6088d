//! Users of whom something was counted, so that each counts once.
//!
//! Failures touch it, and while slowness is watched requests of users. A slot is written once, so
//! all workers may write without a lock; where a user's slots are all taken it
//! counts no more, which is so for every version alike.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Users told apart: half a megabyte, taken with the first.
const SLOTS: usize = 1 << 16;
/// Neighbouring slots that a user may be in.
const REACH: usize = 8;

#[derive(Default)]
pub struct Units(OnceLock<Box<[AtomicU64]>>);

impl Units {
    /// Is this user new? Zero is nobody, who is always new.
    pub fn insert(&self, unit: u64) -> bool {
        if unit == 0 {
            return true;
        }
        let slots = self.0.get_or_init(|| (0..SLOTS).map(|_| AtomicU64::new(0)).collect());
        // The high bits are the user's point among the weights: one version's users
        // would crowd together by them.
        let first = unit as usize % SLOTS;
        for step in 0..REACH {
            let slot = &slots[(first + step) % SLOTS];
            if slot.load(Ordering::Relaxed) == unit {
                return false;
            }
            match slot.compare_exchange(0, unit, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(other) if other == unit => return false,
                Err(_) => {}
            }
        }
        false
    }

    /// Everybody is new again.
    pub fn forget(&self) {
        for slot in self.0.get().into_iter().flatten() {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh64::xxh64;

    use super::*;

    #[test]
    fn each_user_is_new_once_until_all_are_forgotten() {
        let units = Units::default();
        assert!(units.insert(7) && !units.insert(7) && units.insert(8));
        assert!(units.insert(0) && units.insert(0), "nobody is always new");
        units.forget();
        assert!(units.insert(7));
    }

    #[test]
    fn ten_thousand_users_have_room_and_more_only_stop_counting() {
        let units = Units::default();
        let new = |range: std::ops::Range<u64>| {
            range.filter(|user| units.insert(xxh64(&user.to_le_bytes(), 1))).count()
        };
        assert!(new(0..10_000) >= 9_990, "told apart while there are few");
        assert_eq!(new(0..10_000), 0);
        new(10_000..300_000);
        assert_eq!(new(0..10_000), 0, "nobody counts twice, however many there are");
    }
}
