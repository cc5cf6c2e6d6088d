//! Which users' tosses are still fresh, where a user keeps a version.
//!
//! A user's point is tossed once. While the canary had the points below `until`,
//! each user's version told on which side of it he stands; when it gets more, only
//! users beyond are tossed anew, and among these the canary has just what it has
//! gained. So a user may count once more at each rise, and the chance with which he
//! was the canary's is known exactly, whatever he is like.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// Users from this point on are at play.
    pub from: u32,
    /// The most points that the canary has had.
    until: u32,
}

impl Fresh {
    /// Nobody has been tossed for, and the canary has the points below `reach`.
    pub fn begin(reach: u32) -> Fresh {
        Fresh { from: 0, until: reach }
    }

    /// When the canary's points end at `reach`; and whether all who are at play may
    /// count once more. Between more than two `versions` users move in more ways
    /// than one, and each counts but once.
    pub fn on(self, reach: u32, versions: usize) -> (Fresh, bool) {
        if reach <= self.until {
            return (self, false);
        }
        let again = versions == 2;
        (Fresh { from: if again { self.until } else { self.from }, until: reach }, again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_a_rise_only_those_beyond_are_tossed_anew() {
        let first = Fresh::begin(500);
        assert_eq!(first.from, 0);
        let (rise, again) = first.on(2_000, 2);
        assert_eq!((rise.from, again), (500, true));
        let (trickle, again) = rise.on(10, 2);
        assert_eq!((trickle, again), (rise, false), "what was tossed stays tossed");
        assert_eq!(trickle.on(2_000, 2), (rise, false));
        assert_eq!(rise.on(5_000, 2).0.from, 2_000);
    }

    #[test]
    fn between_three_versions_each_user_counts_once() {
        let (rise, again) = Fresh::begin(500).on(2_000, 3);
        assert_eq!((rise.from, again), (0, false));
    }
}
