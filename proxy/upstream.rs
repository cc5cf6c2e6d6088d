//! Connections to upstream endpoints: dialled, kept and handed out.

mod connect;
mod link;
mod pool;

pub use link::{Link, Links};
pub use pool::{Lease, Pool};
