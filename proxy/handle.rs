//! The only door into the proxy.

use std::net::SocketAddr;
use std::time::Duration;

use crate::model::Model;
use crate::reading::Reading;
use crate::weights::Weights;

/// Listener names and the addresses they really got.
#[derive(Clone, Debug)]
pub struct Bound(pub Vec<(String, SocketAddr)>);

#[derive(Clone, Debug)]
pub struct Options {
    pub workers: usize,
}

/// Something wrong with a model: where in it, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A path into the model, e.g. `splits[web].weights`.
    pub path: String,
    pub text: String,
}

/// Ages at which a request under way speaks before it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    pub slow_us: Option<u64>,
    pub reveal_us: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the model has {} problems", .0.len())]
    Model(Vec<Problem>),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start a worker")]
    Worker(#[source] std::io::Error),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShiftError {
    #[error("there is no split {0:?}")]
    NoSplit(String),
    #[error("split {split:?} has no version {version:?}")]
    NoVersion { split: String, version: String },
}

/// A running proxy. Cheap to clone; all methods are safe from any thread.
#[derive(Clone)]
pub struct Handle {}

#[expect(unused_variables, clippy::unimplemented, reason = "signatures first")]
impl Handle {
    /// Compiles the model, binds its listeners and starts the workers.
    pub fn start(model: &Model, options: &Options) -> Result<(Handle, Bound), StartError> {
        unimplemented!()
    }

    /// Swaps the whole model. On problems nothing changes. Live weights stay
    /// where the new model asks for the same weights as the old one did.
    pub fn apply(&self, model: &Model) -> Result<(), Vec<Problem>> {
        unimplemented!()
    }

    /// Changes the weights of one split; the next request of every worker obeys.
    /// Answers with the new generation.
    pub fn shift(&self, split: &str, weights: &Weights) -> Result<u64, ShiftError> {
        unimplemented!()
    }

    /// Sets the ages that the judge of a split wants to hear of.
    pub fn mark(&self, split: &str, marks: Marks) -> Result<(), ShiftError> {
        unimplemented!()
    }

    pub fn readings(&self) -> Reading {
        unimplemented!()
    }

    /// Resolves when a canary has failed or grown slow since the last call.
    pub async fn alarm(&self) {
        unimplemented!()
    }

    /// Stops accepting, lets requests end, and returns when all have or the
    /// deadline has passed.
    pub async fn drain(&self, deadline: Duration) {
        unimplemented!()
    }
}
