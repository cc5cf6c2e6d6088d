//! Connections to upstream endpoints: dialled, kept and handed out.

mod connect;
mod pool;

pub use pool::{Lease, Pool};
