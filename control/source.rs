//! Placeholder with the agreed door.

pub mod file;
