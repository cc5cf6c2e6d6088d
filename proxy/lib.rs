//! The data plane of serin: it accepts, matches, splits, mirrors, shields and
//! counts HTTP requests.
//!
//! What is absent on purpose: no file format, no Kubernetes, no metric text, no
//! rollout, no opinion on whether a version is good. A [`Model`] and
//! [`Weights`] go in; a [`Reading`], [`Problem`]s and [`Bound`] addresses come out.
//!
//! The modules stand in layer order: each may name only those below it.

mod alarm;
mod answer;
mod attempt;
mod body;
mod clock;
mod connections;
mod exchange;
mod fault;
mod flight;
mod flights;
mod handle;
mod head;
pub mod histogram;
mod lane;
mod listen;
mod local;
mod mirror;
pub mod model;
mod outcome;
pub mod reading;
mod retry;
mod rewrite;
mod serve;
mod split;
mod table;
mod tally;
mod text;
mod upstream;
pub mod weights;
mod worker;

pub use handle::{Bound, Handle, Marks, Options, Problem, ShiftError, StartError};
pub use model::Model;
pub use reading::Reading;
pub use weights::Weights;
