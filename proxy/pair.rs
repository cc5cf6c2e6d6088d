//! A user's request and the copy of it that a mirror got. The same request was
//! answered by two versions, so what both failed says nothing about either; only
//! pairs that differ do.
//!
//! Both are held to one measure: an answer whose head came within the time that a
//! copy has, at the first attempt. Where that cannot be told of one of them the
//! pair counts for nobody.

use std::cell::Cell;
use std::sync::Arc;

use crate::outcome::Verdict;
use crate::split::SplitCell;

pub struct Pair {
    cell: Arc<SplitCell>,
    worker: usize,
    /// Before the original was retried, it had failed once.
    retried: Cell<bool>,
    original: Cell<Option<Verdict>>,
    original_us: Cell<u64>,
    copy: Cell<Option<Copied>>,
}

/// How a copy has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    Answered(Verdict),
    /// Nothing came within this time.
    Silent {
        us: u64,
    },
    /// We broke it off.
    Unknown,
}

impl Pair {
    pub fn new(cell: Arc<SplitCell>, worker: usize) -> Pair {
        Pair {
            cell,
            worker,
            retried: Cell::new(false),
            original: Cell::new(None),
            original_us: Cell::new(0),
            copy: Cell::new(None),
        }
    }

    pub fn original_is_retried(&self) {
        self.retried.set(true);
    }

    pub fn original(&self, verdict: Verdict, us: u64) {
        let verdict =
            if self.retried.get() && verdict == Verdict::Success { Verdict::Failure } else { verdict };
        self.original_us.set(us);
        self.original.set(Some(verdict));
        self.count();
    }

    pub fn copy(&self, copied: Copied) {
        self.copy.set(Some(copied));
        self.count();
    }

    /// Called when one of the two has ended; the second call counts.
    fn count(&self) {
        let (Some(original), Some(copied)) = (self.original.get(), self.copy.get()) else { return };
        let copy = match copied {
            Copied::Answered(verdict) => verdict,
            // The original may have taken as long; then who knows.
            Copied::Silent { us } if self.original_us.get() <= us => Verdict::Failure,
            Copied::Silent { .. } | Copied::Unknown => Verdict::Uncounted,
        };
        let has_failed = |verdict| match verdict {
            Verdict::Success => Some(false),
            Verdict::Failure => Some(true),
            Verdict::Uncounted => None,
        };
        let (Some(original), Some(copy)) = (has_failed(original), has_failed(copy)) else { return };
        let pairs = self.cell.pairs(self.worker);
        match (original, copy) {
            (false, false) => pairs.neither_failed.add(1),
            (true, false) => pairs.original_failed.add(1),
            (false, true) => pairs.copy_failed.add(1),
            (true, true) => pairs.both_failed.add(1),
        }
        self.cell.moved(self.worker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;
    use crate::weights::Weights;

    fn counted(act: impl Fn(&Pair)) -> [u64; 4] {
        let versions = vec![("primary".to_owned(), Role::Primary), ("canary".to_owned(), Role::Canary)];
        let weights = Weights::pair("primary", "canary", 0);
        let cell = Arc::new(SplitCell::new("web", versions, &Arc::default(), &weights, 1));
        let pair = Pair::new(cell.clone(), 0);
        act(&pair);
        let reading = cell.read_pairs();
        [reading.neither_failed, reading.original_failed, reading.copy_failed, reading.both_failed]
    }

    #[test]
    fn a_pair_counts_once_whoever_ends_first() {
        use Verdict::{Failure, Success};
        let pairs = [(Success, Success), (Failure, Success), (Success, Failure), (Failure, Failure)];
        for (i, (original, copy)) in pairs.into_iter().enumerate() {
            let mut expected = [0; 4];
            expected[i] = 1;
            let first = counted(|pair| {
                pair.original(original, 10);
                pair.copy(Copied::Answered(copy));
            });
            let last = counted(|pair| {
                pair.copy(Copied::Answered(copy));
                pair.original(original, 10);
            });
            assert_eq!((first, last), (expected, expected), "{original:?} {copy:?}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        let success = |pair: &Pair| pair.original(Verdict::Success, 10);
        assert_eq!(counted(success), [0; 4], "the copy has not ended");
        let unknown = |pair: &Pair| {
            success(pair);
            pair.copy(Copied::Unknown);
        };
        assert_eq!(counted(unknown), [0; 4]);
        let silent = |us| {
            counted(|pair| {
                success(pair);
                pair.copy(Copied::Silent { us });
            })
        };
        assert_eq!(silent(20), [0, 0, 1, 0]);
        assert_eq!(silent(5), [0; 4], "the original took as long");
    }

    #[test]
    fn an_original_that_was_saved_by_a_retry_had_failed() {
        let retried = counted(|pair| {
            pair.original_is_retried();
            pair.original(Verdict::Success, 10);
            pair.copy(Copied::Answered(Verdict::Success));
        });
        assert_eq!(retried, [0, 1, 0, 0]);
    }
}
