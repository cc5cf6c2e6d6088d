//! What a proxy is to do in one case, in words that hold for every peer; `configs` says it in each one's own.
//! The split is 90/10 over the same two upstreams wherever nothing else is said.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Front {
    Http1,
    /// In the clear, with prior knowledge.
    Http2,
    Tls,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Back {
    Http1,
    Http2,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Split {
    /// Each request by chance.
    Coin,
    /// By the cookie `sid`; before that, who has `x-canary: always` goes to the canary.
    Sticky,
    /// Everything to the primary, and a copy of it to the canary.
    Mirror,
    /// So many routes, each to a cluster of its own, whose one endpoint is the primary.
    Routes(usize, By),
    /// So many services with a split each; the traffic is for the first. serin alone.
    Services(usize),
}

/// What tells one route from another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum By {
    Path,
    Host,
}

#[derive(Clone, Copy, Debug)]
pub struct Setting {
    pub front: Front,
    pub back: Back,
    pub split: Split,
    /// Bodies of many buffers pass, in either direction.
    pub bodies: bool,
    pub workers: usize,
    /// The canary's share in percent.
    pub canary: u32,
    /// The share can be changed from outside, and no rollout holds it.
    pub movable: bool,
    /// Connections there must be room for.
    pub room: usize,
}

pub const PLAIN: Setting = Setting {
    front: Front::Http1,
    back: Back::Http1,
    split: Split::Coin,
    bodies: false,
    workers: 1,
    canary: 10,
    movable: false,
    room: 4096,
};

/// Where everything is for one peer.
pub struct Places<'a> {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub primary: SocketAddr,
    pub canary: SocketAddr,
    pub folder: &'a Path,
}

impl Places<'_> {
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    pub fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// Certificate and key in one file.
    pub fn both(&self) -> PathBuf {
        self.folder.join("both.pem")
    }
}

/// The name of a route and of its cluster.
pub fn route(index: usize) -> String {
    format!("shop-{index}")
}
