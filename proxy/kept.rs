//! The last reading of something, so that what rests is not read again: who asks
//! is given the same one, and can tell by its address that nothing has changed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// A reading, and the state that it was of. What changes a reading must change the
/// state, too, and not before it.
pub struct Kept<S, T>(ArcSwapOption<(S, Arc<T>)>);

impl<S, T> Default for Kept<S, T> {
    fn default() -> Kept<S, T> {
        Kept(ArcSwapOption::empty())
    }
}

impl<S: PartialEq, T> Kept<S, T> {
    /// The reading of this state; `read` is asked where it is another than before.
    pub fn of(&self, state: S, read: impl FnOnce() -> T) -> Arc<T> {
        if let Some(kept) = &*self.0.load()
            && kept.0 == state
        {
            return kept.1.clone();
        }
        let reading = Arc::new(read());
        self.0.store(Some(Arc::new((state, reading.clone()))));
        reading
    }
}
