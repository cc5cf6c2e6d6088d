//! When the process has too much, over all listeners together.

use serde::Serialize;

/// Without a word the ceilings are those of the process itself: the memory that
/// its control group allows, and half of the descriptors it may open.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Overload {
    /// Resident memory. Close to it keep-alive ends, then requests are refused,
    /// and at last no connection is accepted.
    pub memory_bytes: Option<u64>,
    /// Client connections; past it new ones are answered with a 503.
    pub connections: Option<u64>,
}

impl Overload {
    pub fn is_default(&self) -> bool {
        *self == Overload::default()
    }
}
