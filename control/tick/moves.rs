//! Which splits have moved since they were last looked at. A split at rest costs one
//! comparison with what stands at its place, and neither its name nor its rollout.

use std::collections::HashSet;

use serin_proxy::reading::State;

use crate::fleet::Fleet;

#[derive(Default)]
pub struct Moves {
    /// The model that the places are of.
    applied: u64,
    /// Splits that some rollout moves; needed until all places are known.
    watched: HashSet<String>,
    /// By the split's place.
    known: Vec<Known>,
}

enum Known {
    /// No rollout wants to hear of it.
    Nobodys,
    Read(State),
}

impl Moves {
    /// Forgets what was known of another model.
    pub fn follow(&mut self, applied: u64, fleet: &Fleet) {
        if self.applied != applied {
            let watched = fleet.watched().into_iter().map(str::to_owned).collect();
            *self = Moves { applied, watched, known: Vec::new() };
        }
    }

    /// Whether there is something new to read. Who is told so has to read it.
    /// Places come in their order.
    pub fn has_moved(&mut self, place: usize, split: &str, state: State) -> bool {
        match self.known.get_mut(place) {
            Some(Known::Nobodys) => false,
            // The state of none: what another process counts is not seen to move.
            Some(Known::Read(known)) if *known == state && state != State::default() => false,
            Some(Known::Read(known)) => {
                *known = state;
                true
            }
            None if self.watched.contains(split) => {
                self.known.push(Known::Read(state));
                true
            }
            None => {
                self.known.push(Known::Nobodys);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Moves {
        Moves { applied: 1, watched: HashSet::from(["b".to_owned()]), known: Vec::new() }
    }

    #[test]
    fn a_split_is_read_once_for_each_state() {
        let mut known = known();
        let mut read = |moves| {
            let state = State { applied: 1, moves };
            ["a", "b"].iter().enumerate().map(|(place, split)| known.has_moved(place, split, state)).collect()
        };
        let read: [Vec<bool>; 4] = [0, 0, 7, 7].map(&mut read);
        assert_eq!(read, [vec![false, true], vec![false, false], vec![false, true], vec![false, false]]);
    }

    #[test]
    fn one_without_a_state_is_read_each_time() {
        let mut known = known();
        let read = [(); 3].map(|()| {
            known.has_moved(0, "a", State::default());
            known.has_moved(1, "b", State::default())
        });
        assert_eq!(read, [true; 3]);
    }
}
