//! Turns by weight: the earliest deadline is first, and each turn puts the next
//! one off by one over the weight. Smooth, and open to weights that change.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

pub struct Turns {
    heap: BinaryHeap<Turn>,
    now: f64,
    order: u64,
}

struct Turn {
    deadline: f64,
    /// Who was put in line first goes first.
    order: u64,
    position: usize,
}

impl Turns {
    /// Begins somewhere in the cycle, so that workers do not march in step.
    pub fn new(count: usize, weight: impl Fn(usize) -> f64, begin: usize) -> Turns {
        let mut turns = Turns { heap: BinaryHeap::with_capacity(count), now: 0.0, order: 0 };
        for position in 0..count {
            turns.line_up(position, weight(position));
        }
        for _ in 0..begin {
            turns.next(&weight);
        }
        turns
    }

    pub fn next(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let Turn { deadline, position, .. } = self.heap.pop()?;
        self.now = deadline;
        self.line_up(position, weight(position));
        Some(position)
    }

    fn line_up(&mut self, position: usize, weight: f64) {
        self.order += 1;
        let deadline = self.now + 1.0 / weight.max(f64::MIN_POSITIVE.sqrt());
        self.heap.push(Turn { deadline, order: self.order, position });
    }
}

/// The greatest of a heap is the next: the smallest deadline.
impl Ord for Turn {
    fn cmp(&self, other: &Turn) -> Ordering {
        other.deadline.total_cmp(&self.deadline).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Turn) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Turn) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_the_weights_and_are_spread() {
        let weight = |position: usize| [1.0, 2.0, 5.0][position];
        let mut turns = Turns::new(3, weight, 5);
        let taken: Vec<usize> = (0..80).filter_map(|_| turns.next(weight)).collect();
        let count = |position| taken.iter().filter(|other| **other == position).count();
        assert_eq!((count(0), count(1), count(2)), (10, 20, 50));
        let longest = taken.split(|position| *position != 2).map(<[usize]>::len).max();
        assert!(longest <= Some(3), "{taken:?}");
        assert_eq!(Turns::new(0, weight, 3).next(weight), None);
    }
}
