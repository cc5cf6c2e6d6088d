//! serin: everything that is not a request. Modules stand in layer order; each
//! may name only those below it.

pub mod source;

pub mod config;

pub mod clock;
pub mod judge;
pub mod rollout;
