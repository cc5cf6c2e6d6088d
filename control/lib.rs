//! serin: everything that is not a request. Modules stand in layer order; each
//! may name only those below it.

pub mod cli;
pub mod demo;
pub mod app;
pub mod load;
pub mod admin;
pub mod audit;
pub mod outward;
pub mod handover;
pub mod systemd;
pub mod limits;
pub mod alert;
pub mod hook;
pub mod tick;
pub mod fleet;
pub mod act;
pub mod events;
pub mod journal;
pub mod falls;
pub mod certificates;
pub mod figures;
pub mod window;
pub mod query;
pub mod series;
pub mod provider;
pub mod courier;
pub mod source;
pub mod config;
pub mod template;
pub mod rehearse;
pub mod rollout;
pub mod judge;
pub mod outside;
pub mod secret;
pub mod names;
pub mod clock;
