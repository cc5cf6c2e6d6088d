//! The labels of a series, its name among them, in order of their names.

use std::mem::size_of;
use std::sync::Arc;

/// Under this label stands the name itself.
pub const NAME: &str = "__name__";

type Pair = (Arc<str>, Arc<str>);

/// Never with an empty value: that is the same as no label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[Pair]>);

impl Labels {
    /// Of two with the same name the later counts.
    pub fn new(mut pairs: Vec<Pair>) -> Labels {
        pairs.reverse();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|later, kept| later.0 == kept.0);
        pairs.retain(|(_, value)| !value.is_empty());
        Labels(pairs.into())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|pair| (*pair.0).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn filter(&self, is_kept: impl Fn(&str) -> bool) -> Labels {
        Labels(self.0.iter().filter(|pair| is_kept(&pair.0)).cloned().collect())
    }

    /// With this label so, whatever it was; an empty value takes it away.
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let mut pairs = self.0.to_vec();
        pairs.push((name.into(), value.into()));
        Labels::new(pairs)
    }

    pub fn size(&self) -> usize {
        16 + self.0.len() * size_of::<Pair>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_in_order_and_an_empty_one_is_none() {
        let labels = Labels::default().with("b", "1").with("a", "2").with("b", "3").with("c", "");
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!((labels.get("b"), labels.get("c")), (Some("3"), None));
        assert_eq!(labels.with("a", "").iter().count(), 1);
    }
}
