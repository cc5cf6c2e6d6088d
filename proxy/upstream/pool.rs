//! One worker's connections to one endpoint.
//!
//! HTTP/1 connections are taken by one request at a time and wait here between
//! requests, the most recently used on top. HTTP/2 requests share one.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::client::conn::http2;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::body::RequestBody;
use crate::carriage::Carriage;
use crate::clock;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::location::Location;
use crate::model::Protocol;
use crate::preamble::Ends;
use crate::upstream::connect;

/// A connection unused for longer is closed, before even a server that keeps
/// one for no more than five seconds would do it under a request of ours.
const IDLE_US: u64 = 4_000_000;
/// Connections kept between requests, per worker and endpoint.
pub const MAX_IDLE: usize = 1024;
/// Hosts told apart at one endpoint, where the server's name is the request's.
pub const MAX_HOSTS: usize = 256;

pub fn is_stale(since_us: u64, now_us: u64) -> bool {
    now_us >= since_us + IDLE_US
}

pub struct Pool {
    location: Location,
    carriage: Carriage,
    /// Whom these connections are for, where the server's name is the request's.
    host: Option<Box<str>>,
    by_host: RefCell<HashMap<Box<str>, Rc<Pool>>>,
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Option<http2::SendRequest<RequestBody>>>,
    dialing: Cell<bool>,
    dialed: Notify,
    /// How often a shared connection was dialled, and how the last dial failed.
    dials: Cell<u64>,
    failed: Cell<Option<Fault>>,
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    driver: Option<AbortHandle>,
    since_us: u64,
}

/// A connection given to one request.
pub enum Lease {
    Http1 { sender: http1::SendRequest<RequestBody>, cut: Cut, pool: Rc<Pool>, reused: bool },
    Http2 { sender: http2::SendRequest<RequestBody> },
}

/// Ends its connection when dropped in the middle of an exchange. hyper would
/// first send what it has buffered, for ever where nobody reads.
pub struct Cut(Option<AbortHandle>);

impl Drop for Cut {
    fn drop(&mut self) {
        if let Some(driver) = &self.0 {
            driver.abort();
        }
    }
}

impl Pool {
    pub fn new(location: Location, carriage: Carriage, host: Option<Box<str>>) -> Rc<Pool> {
        Rc::new(Pool {
            location,
            carriage,
            host,
            by_host: RefCell::default(),
            idle: RefCell::default(),
            shared: RefCell::default(),
            dialing: Cell::new(false),
            dialed: Notify::new(),
            dials: Cell::new(0),
            failed: Cell::new(None),
        })
    }

    /// Those for requests of this host; the same for all where it does not matter.
    pub fn of(self: &Rc<Self>, host: Option<&str>) -> Rc<Pool> {
        let Some(host) = host.filter(|_| self.host.is_none() && self.carriage.asks_for_host()) else {
            return self.clone();
        };
        let mut by_host = self.by_host.borrow_mut();
        if by_host.len() >= MAX_HOSTS && !by_host.contains_key(host) {
            by_host.clear();
        }
        let new = || Pool::new(self.location.clone(), self.carriage.clone(), Some(host.into()));
        by_host.entry(host.into()).or_insert_with(new).clone()
    }

    pub async fn lease(
        self: &Rc<Self>,
        connect_timeout: Duration,
        ends: Option<Ends>,
    ) -> Result<Lease, Fault> {
        match self.carriage.protocol {
            Protocol::Http1 => match self.take_idle() {
                Some(Idle { sender, driver, .. }) => {
                    Ok(Lease::Http1 { sender, cut: Cut(driver), pool: self.clone(), reused: true })
                }
                None => self.dial(connect_timeout, ends).await,
            },
            Protocol::Http2 => self.share(connect_timeout).await,
        }
    }

    /// A fresh HTTP/1 connection, whatever waits idle.
    pub async fn dial(
        self: &Rc<Self>,
        connect_timeout: Duration,
        ends: Option<Ends>,
    ) -> Result<Lease, Fault> {
        match self.carriage.protocol {
            Protocol::Http1 => {
                let (sender, driver) = connect::http1(self.dialing_of(ends, connect_timeout)).await?;
                Ok(Lease::Http1 { sender, cut: Cut(Some(driver)), pool: self.clone(), reused: false })
            }
            Protocol::Http2 => self.share(connect_timeout).await,
        }
    }

    fn dialing_of(&self, ends: Option<Ends>, timeout: Duration) -> connect::Dial<'_> {
        let (carriage, location, host) = (&self.carriage, &self.location, self.host.as_deref());
        connect::Dial { carriage, location, host, ends, timeout }
    }

    fn take_idle(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        let mut index = idle.len();
        while index > 0 {
            index -= 1;
            if idle[index].sender.is_ready() {
                return Some(idle.swap_remove(index));
            }
            // Not ready and not closed: its last answer is still being read off.
            if idle[index].sender.is_closed() {
                idle.swap_remove(index);
            }
        }
        None
    }

    async fn share(&self, connect_timeout: Duration) -> Result<Lease, Fault> {
        loop {
            let known = self.shared.borrow().clone();
            if let Some(mut sender) = known {
                if poll_fn(|cx| sender.poll_ready(cx)).await.is_ok() {
                    return Ok(Lease::Http2 { sender });
                }
                self.shared.borrow_mut().take_if(|shared| shared.is_closed());
            }
            if self.dialing.replace(true) {
                let dial = self.dials.get();
                self.dialed.notified().await;
                match self.failed.get() {
                    Some(fault) if self.dials.get() == dial => return Err(fault),
                    _ => continue,
                }
            }
            self.dials.set(self.dials.get() + 1);
            self.failed.set(None);
            let _dialing = Dialing(self);
            match connect::http2(self.dialing_of(None, connect_timeout)).await {
                Ok(sender) => *self.shared.borrow_mut() = Some(sender),
                Err(fault) => {
                    self.failed.set(Some(fault));
                    return Err(fault);
                }
            }
        }
    }

    /// Closes what has waited too long.
    pub fn expire(&self, now_us: u64) {
        self.idle.borrow_mut().retain(|idle| !is_stale(idle.since_us, now_us) && !idle.sender.is_closed());
        self.by_host.borrow_mut().retain(|_, pool| {
            pool.expire(now_us);
            let shared = pool.shared.borrow().as_ref().is_some_and(|shared| !shared.is_closed());
            Rc::strong_count(pool) > 1 || shared || !pool.idle.borrow().is_empty()
        });
    }
}

/// Lets the waiting requests look again, also when the dial is given up.
struct Dialing<'a>(&'a Pool);

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(false);
        self.0.dialed.notify_waiters();
    }
}

impl Lease {
    pub fn is_http2(&self) -> bool {
        matches!(self, Lease::Http2 { .. })
    }

    pub async fn send(&mut self, request: Request<RequestBody>) -> Result<Response<Incoming>, Fault> {
        let (sent, kept) = match self {
            Lease::Http1 { sender, reused, .. } => (sender.try_send_request(request).await, *reused),
            Lease::Http2 { sender } => (sender.try_send_request(request).await, true),
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
        if let Lease::Http1 { sender, mut cut, pool, .. } = self
            && !sender.is_closed()
        {
            let mut idle = pool.idle.borrow_mut();
            if idle.len() < MAX_IDLE && pool.carriage.proxy_header.is_none() {
                let driver = cut.0.take();
                idle.push(Idle { sender, driver, since_us: clock::recent_us() });
            }
        }
    }
}
