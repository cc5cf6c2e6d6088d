//! The one integration test binary.

mod judge;
mod simulation;
