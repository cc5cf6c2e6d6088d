//! The data plane of serin: it accepts, matches, splits, mirrors, shields and
//! counts HTTP requests.
//!
//! What is absent on purpose: no file format, no Kubernetes, no metric text, no
//! rollout, no opinion on whether a version is good. A [`Model`] and
//! [`Weights`] go in; a [`Reading`], [`Problem`]s and [`Bound`] addresses come out.
//!
//! The modules stand in layer order: each may name only those below it.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(feature = "micro")]
pub mod micro;
mod handle;
mod destination;
mod upkeep;
mod resolve;
mod sockets;
mod worker;
mod listen;
mod serve;
mod arrival;
mod h1;
mod streams;
mod exchange;
mod answer;
mod tunnel;
mod compare;
mod mirror;
mod admission;
mod tries;
mod flight;
mod attempt;
mod call;
mod lane;
mod upstream;
mod body;
mod download;
mod buffer;
mod table;
mod hosts;
mod carriage;
mod retry;
mod counting;
mod inquiry;
mod rules;
mod breaker;
mod tls;
mod balance;
mod hashing;
mod pair;
mod flights;
mod split;
mod predicate;
mod overload;
mod tally;
mod manners;
mod redirect;
mod cors;
mod limit;
mod inject;
mod reply;
mod edit;
mod message;
mod text;
pub mod reading;
mod interim;
mod rewrite;
mod forwarded;
mod connections;
mod frames;
mod upgrade;
mod timeouts;
mod paths;
mod preamble;
pub mod model;
mod outcome;
mod head;
mod local;
pub mod codes;
pub mod exemplars;
pub mod trio;
mod count;
mod kept;
pub mod histogram;
pub mod weights;
mod clock;
mod fault;
mod alarm;
mod location;
mod cork;
mod wire;

pub use destination::{Destination, Routing};
pub use forwarded::request_id;
pub use handle::{
    Bound, Ceilings, Handle, Inherited, Legacy, Marks, Options, Pace, Problem, ShiftError, StartError,
};
pub use model::Model;
pub use reading::Reading;
pub use split::{Fresh, MAX_STRATA};
pub use tls::{
    Facts as CertificateFacts, Part as CertificatePart, check_authorities, check_certificate, client_config,
};
pub use weights::Weights;
