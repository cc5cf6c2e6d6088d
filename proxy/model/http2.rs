//! How a listener speaks HTTP/2.

use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Http2 {
    /// Requests that one connection may have under way.
    pub max_streams: u32,
    /// Bytes of one request's body that a client may send ahead of the upstream.
    pub stream_window: u32,
    /// The same over all requests of a connection.
    pub connection_window: u32,
    /// The largest frame that a client may send.
    pub max_frame_size: u32,
    /// Pings to clients; one that does not answer is given up.
    pub keep_alive: Option<KeepAlive>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeepAlive {
    pub interval: Duration,
    pub timeout: Duration,
}

impl Http2 {
    pub fn is_default(&self) -> bool {
        *self == Http2::default()
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Http2 {
            max_streams: 1024,
            stream_window: 256 * 1024,
            connection_window: 4 * 1024 * 1024,
            max_frame_size: 16 * 1024,
            keep_alive: None,
        }
    }
}
