//! One worker's connections to one endpoint that hyper drives.
//!
//! HTTP/1 connections are taken by one request at a time and wait here between
//! requests, the most recently used on top. HTTP/2 connections are shared.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::task::AbortHandle;

use crate::body::RequestBody;
use crate::breaker::Permit;
use crate::carriage::Carriage;
use crate::clock;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::location::Location;
use crate::model::Protocol;
use crate::preamble::Ends;
use crate::rules::Rules;
use crate::upstream::connect;
use crate::upstream::connect::Opened;
use crate::upstream::gate::Admitted;
use crate::upstream::gate::Gate;
use crate::upstream::gate::Open;
use crate::upstream::streams;
use crate::upstream::streams::Stream;
use crate::upstream::streams::Streams;
use crate::upstream::streams::Taken;

/// Connections kept between requests, per worker and endpoint.
pub const MAX_IDLE: usize = 1024;
/// Hosts told apart at one endpoint, where the server's name is the request's.
pub const MAX_HOSTS: usize = 256;

pub struct Pool {
    location: Location,
    carriage: Carriage,
    /// Whom these connections are for, where the server's name is the request's.
    host: Option<Box<str>>,
    by_host: RefCell<HashMap<Box<str>, Rc<Pool>>>,
    gate: Rc<Gate>,
    idle: RefCell<Vec<Idle>>,
    streams: Streams,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    driver: Option<AbortHandle>,
    open: Open,
    since_us: u64,
}

/// A connection given to one request.
pub struct Lease {
    carrier: Carrier,
    /// The place of the request that it is given to.
    _request: Option<Permit>,
}

enum Carrier {
    Http1 { sender: http1::SendRequest<RequestBody>, cut: Cut, open: Open, pool: Rc<Pool> },
    Http2(Stream),
}

/// Ends its connection when dropped in the middle of an exchange. hyper would
/// first send what it has buffered, for ever where nobody reads.
struct Cut(Option<AbortHandle>);

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(driver) = &self.0 {
            driver.abort();
        }
    }
}

impl Pool {
    pub fn new(
        location: Location,
        carriage: Carriage,
        host: Option<Box<str>>,
        rules: &Arc<Rules>,
    ) -> Rc<Pool> {
        let usual = match carriage.protocol {
            Protocol::Http1 => u32::MAX,
            Protocol::Http2 | Protocol::Auto => streams::CONNECTIONS,
        };
        let (gate, streams) = (Gate::new(rules, usual), Streams::default());
        let (idle, by_host) = (RefCell::default(), RefCell::default());
        Rc::new(Pool { location, carriage, host, by_host, gate, idle, streams })
    }

    /// A reload may have changed the rules.
    pub fn adopt(&self, rules: &Arc<Rules>) {
        self.gate.adopt(rules);
        self.by_host.borrow().values().for_each(|pool| pool.gate.adopt(rules));
    }

    /// Those for requests of this host; the same for all where it does not matter.
    /// Each host has a gate of its own: a connection made for another is of no use.
    pub fn of(self: &Rc<Self>, host: Option<&str>) -> Rc<Pool> {
        let Some(host) = host.filter(|_| self.host.is_none() && self.carriage.asks_for_host()) else {
            return self.clone();
        };
        let mut by_host = self.by_host.borrow_mut();
        if by_host.len() >= MAX_HOSTS && !by_host.contains_key(host) {
            by_host.clear();
        }
        let (location, carriage) = (&self.location, &self.carriage);
        let new = || Pool::new(location.clone(), carriage.clone(), Some(host.into()), &self.gate.rules());
        by_host.entry(host.into()).or_insert_with(new).clone()
    }

    /// A connection for a request; `fresh` asks for one that has carried none.
    /// `ends` are the client's, where it is told of.
    pub async fn lease(
        self: &Rc<Self>,
        fresh: bool,
        timeout: Duration,
        ends: Option<Ends>,
    ) -> Result<Lease, Fault> {
        let (carriage, location, host) = (&self.carriage, &self.location, self.host.as_deref());
        let carrier = match carriage.protocol {
            Protocol::Http1 => {
                let way = connect::Dial { carriage, location, host, ends, timeout };
                self.connection(fresh, way).await?
            }
            Protocol::Http2 | Protocol::Auto => {
                let way = connect::Dial { carriage, location, host, ends: None, timeout };
                self.stream(fresh, way).await?
            }
        };
        match self.gate.request() {
            Ok(_request) => Ok(Lease { carrier, _request }),
            Err(full) => {
                carrier.give_back();
                Err(full)
            }
        }
    }

    /// A stream, or a connection where the endpoint chooses to have none.
    async fn stream(self: &Rc<Self>, fresh: bool, way: connect::Dial<'_>) -> Result<Carrier, Fault> {
        while !self.streams.are_none() {
            match self.streams.take(&self.gate, way).await? {
                Taken::Stream(stream) => return Ok(Carrier::Http2(stream)),
                Taken::Http1(sender, driver, open) => {
                    return Ok(self.lend(Idle { sender, driver: Some(driver), open, since_us: 0 }));
                }
                Taken::None => {}
            }
        }
        self.connection(fresh, way).await
    }

    async fn connection(self: &Rc<Self>, fresh: bool, way: connect::Dial<'_>) -> Result<Carrier, Fault> {
        let kept = if fresh || self.gate.is_crowded() { None } else { self.take_idle() };
        if let Some(idle) = kept {
            return Ok(self.lend(idle));
        }
        let _pending = self.gate.pending()?;
        let open = match self.gate.admit(fresh, || self.take_idle()).await? {
            Admitted::Kept(idle) => return Ok(self.lend(idle)),
            Admitted::New(open) => open,
        };
        Ok(match connect::open(way).await? {
            Opened::Http1(sender, driver) => {
                self.lend(Idle { sender, driver: Some(driver), open, since_us: 0 })
            }
            Opened::Http2(sender, most) => Carrier::Http2(self.streams.share(sender, most, open, &self.gate)),
        })
    }

    fn lend(self: &Rc<Self>, idle: Idle) -> Carrier {
        let Idle { sender, driver, open, .. } = idle;
        open.serve();
        Carrier::Http1 { sender, cut: Cut(driver), open, pool: self.clone() }
    }

    fn take_idle(&self) -> Option<Idle> {
        let mut closed = Vec::new();
        let mut idle = self.idle.borrow_mut();
        let mut index = idle.len();
        let mut found = None;
        while index > 0 && found.is_none() {
            index -= 1;
            if idle[index].sender.is_ready() {
                found = Some(idle.swap_remove(index));
            } else if idle[index].sender.is_closed() {
                closed.push(idle.swap_remove(index));
            }
            // Neither: its last answer is still being read off.
        }
        drop(idle);
        drop(closed);
        found
    }

    /// Closes what has waited too long.
    pub fn expire(&self, now_us: u64) {
        let rules = self.gate.rules().clone();
        let is_over = |idle: &mut Idle| rules.is_stale(idle.since_us, now_us) || idle.sender.is_closed();
        // Collected first: each that is closed lets somebody else in.
        let over: Vec<Idle> = self.idle.borrow_mut().extract_if(.., is_over).collect();
        drop(over);
        self.streams.expire(&self.gate, now_us);
        self.by_host.borrow_mut().retain(|_, pool| {
            pool.expire(now_us);
            Rc::strong_count(pool) > 1 || !pool.streams.is_empty() || !pool.idle.borrow().is_empty()
        });
    }
}

impl Lease {
    pub fn is_http2(&self) -> bool {
        matches!(self.carrier, Carrier::Http2(_))
    }

    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Fault> {
        let (sent, kept) = match &mut self.carrier {
            Carrier::Http1 { sender, open, .. } => (sender.try_send_request(request).await, !open.is_fresh()),
            Carrier::Http2(stream) => (stream.sender.try_send_request(request).await, true),
        };
        sent.map_err(|mut error| {
            let fault = Fault::of_exchange(error.error());
            match (error.take_message(), fault.kind) {
                (Some(_), _) if kept => Fault::upstream(Kind::Unsent),
                // An endpoint may close a kept connection just as it is used again.
                (None, Kind::Reset) if kept => Fault::upstream(Kind::Stale),
                _ => fault,
            }
        })
    }

    /// The answer has been read to its end: the connection may serve another.
    pub fn give_back(self) {
        self.carrier.give_back();
    }
}

impl Carrier {
    fn give_back(self) {
        if let Carrier::Http1 { sender, mut cut, open, pool } = self
            && !sender.is_closed()
            && !open.is_spent()
        {
            let mut idle = pool.idle.borrow_mut();
            if idle.len() < MAX_IDLE && pool.carriage.proxy_header.is_none() {
                idle.push(Idle { sender, driver: cut.0.take(), open, since_us: clock::recent_us() });
                drop(idle);
                pool.gate.free();
            }
        }
    }
}
