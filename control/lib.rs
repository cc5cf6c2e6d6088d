//! serin: everything that is not a request. Modules stand in layer order; each
//! may name only those below it.

pub mod demo;
pub mod rehearse;
pub mod source;
pub mod config;
pub mod rollout;
pub mod judge;
pub mod clock;
