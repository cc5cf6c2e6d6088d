//! HTTP/1.1 relayed to HTTP/1.1 without taking messages apart: a head is read
//! in place, matched, and written anew with our fields; bodies pass unchanged.
//!
//! This is the common case and the fast one. It knows nothing unusual: what is
//! not plain (other versions, upgrades, `expect`) goes, with all
//! that was read of it, to hyper, which keeps that connection from then on. What
//! could be read in two ways (`strict.rs`) is for nobody: hyper reads behind
//! `guard.rs`, which lets only the rest through.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(feature = "micro")]
pub mod micro;
mod guard;
mod relay;
mod deliver;
mod answer;
mod question;
mod copy;
mod client;
mod converse;
mod response;
mod strict;
mod request;
mod lines;

use crate::message::{field, framing, scan};
pub use guard::Guard;
pub use relay::{Ended, relay};
