//! The one integration binary: serin as its users meet it, over real sockets.

#![expect(clippy::disallowed_methods, reason = "deadlines and measured times")]

mod harness;

mod accounts;
mod admin;
mod balance;
mod breaker;
mod connect;
mod cors;
mod crash;
mod demo;
mod dialects;
mod differ;
mod discovery;
mod drain;
mod edits;
mod faults;
mod floods;
mod forwarded;
mod grpc;
mod h2spec;
mod http2;
mod inject;
mod health;
mod judge;
mod listeners;
mod metrics;
mod mirror;
mod nginx;
mod openapi;
mod outlier;
mod overload;
mod proof;
mod protocol;
mod ratelimit;
mod redirect;
mod proxy_protocol;
mod reload;
mod restart;
mod retry;
mod rollout;
mod routing;
mod shield;
mod simulation;
mod smuggling;
mod slow;
mod split;
mod sticky;
mod systemd;
mod tls;
mod tls_upstream;
mod tidy;
mod timeouts;
mod weights;
mod websocket;
