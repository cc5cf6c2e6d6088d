//! serin: everything that is not a request. Modules stand in layer order; each
//! may name only those below it.

pub mod demo;

pub mod clock;
pub mod judge;
pub mod rollout;
