//! The one integration binary.

mod dialects;
mod judge;
mod simulation;
