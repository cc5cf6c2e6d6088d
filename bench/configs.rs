//! What each peer is told, one file a peer. Each is set as its own manual advises for speed: a peer
//! hobbled by its file proves nothing. All keep connections to both sides, name the client and (Traefik
//! apart, which cannot) the request to the upstream, and write no access log.

pub mod caddy;
pub mod envoy;
pub mod haproxy;
pub mod nginx;
pub mod serin;
pub mod traefik;
