//! Placeholder with the agreed door; the native dialect brings the real file.

pub mod problem;

use crate::rollout;

#[derive(Debug)]
pub struct Loaded {
    pub model: serin_proxy::Model,
    pub rollouts: Vec<rollout::Spec>,
    pub admin: std::net::SocketAddr,
    pub workers: Option<usize>,
    pub state: Option<std::path::PathBuf>,
    pub warnings: Vec<problem::Problem>,
}

pub fn load(_origin: &str, _text: &str) -> Result<Loaded, Vec<problem::Problem>> {
    Err(Vec::new())
}
