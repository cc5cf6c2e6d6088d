//! What happens when an attempt does not succeed: may the request be sent again,
//! where, when, and how often in all.
//!
//! Nothing here sends anything. Both codecs tell [`Attempts`] how an attempt has
//! ended and do what it answers.

mod attempts;
mod plan;
mod shield;

pub use attempts::{Attempts, Ended, Instead, Means, Next, Stop};
pub use plan::{Plan, Signs};
pub use shield::Budget;

/// Endpoints tried before a version counts as unreachable.
pub const MAX_TRIES: u32 = 3;

/// Methods whose repetition means the same as one (RFC 9110, 9.2.2).
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" | "TRACE")
}
