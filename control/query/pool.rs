//! Sets of labels by number, so that a sample is two words and equal sets are
//! equal numbers; what is derived from a set is derived once.

use std::collections::HashMap;

use crate::series::Labels;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Set(pub u32);

/// What derives: a place in the expression, by address, or one of a few words.
pub type By = usize;

/// The same for every expression.
pub const NAMELESS: By = 0;

#[derive(Default)]
pub struct Pool {
    sets: Vec<Labels>,
    numbers: HashMap<Labels, Set>,
    derived: HashMap<(By, Set, Set), Set>,
}

impl Pool {
    pub fn intern(&mut self, labels: Labels) -> Set {
        if let Some(set) = self.numbers.get(&labels) {
            return *set;
        }
        let set = Set(u32::try_from(self.sets.len()).expect("points are bounded, and so are their labels"));
        self.sets.push(labels.clone());
        self.numbers.insert(labels, set);
        set
    }

    pub fn labels(&self, set: Set) -> &Labels {
        &self.sets[set.0 as usize]
    }

    pub fn derive(&mut self, by: By, from: Set, derive: impl FnOnce(&Labels) -> Labels) -> Set {
        self.derive_of_two(by, from, from, |labels, _| derive(labels))
    }

    pub fn derive_of_two(
        &mut self,
        by: By,
        one: Set,
        other: Set,
        derive: impl FnOnce(&Labels, &Labels) -> Labels,
    ) -> Set {
        if let Some(set) = self.derived.get(&(by, one, other)) {
            return *set;
        }
        let labels = derive(self.labels(one), self.labels(other));
        let set = self.intern(labels);
        self.derived.insert((by, one, other), set);
        set
    }

    pub fn nameless(&mut self, set: Set) -> Set {
        self.derive(NAMELESS, set, |labels| labels.filter(|name| name != crate::series::NAME))
    }
}
