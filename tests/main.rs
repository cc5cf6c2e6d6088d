//! The one integration test binary.

mod dialects;
mod judge;
mod simulation;
