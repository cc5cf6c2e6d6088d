//! Connections to upstream endpoints: dialled, kept and handed out.

mod busy;
mod connect;
mod gate;
mod link;
mod picker;
mod pool;
mod pools;
mod probe;
mod streams;

pub use busy::Busy;
pub use connect::dial;
pub use link::{Link, Links};
pub use picker::{Backend, Picker, Wish};
pub use pool::{Lease, Pool};
pub use pools::Pools;
pub use probe::{Asked, Checked, Prober};
