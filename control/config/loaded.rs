//! What a configuration says, whatever dialect it was written in.

use std::net::SocketAddr;
use std::path::PathBuf;

use serin_proxy::Model;

use crate::config::problem::Problem;
use crate::rollout::Spec;

#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub model: Model,
    pub rollouts: Vec<Spec>,
    pub admin: SocketAddr,
    /// Available cores where not given.
    pub workers: Option<usize>,
    /// Directory of the rollout journal, as written.
    pub state: Option<PathBuf>,
    pub warnings: Vec<Problem>,
}
