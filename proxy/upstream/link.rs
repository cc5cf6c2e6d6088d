//! Plain connections of one worker to one endpoint, kept between requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::carriage::Carriage;
use crate::clock;
use crate::fault::Fault;
use crate::location::Location;
use crate::preamble::Ends;
use crate::upstream::connect;
use crate::upstream::pool::MAX_HOSTS;
use crate::upstream::pool::MAX_IDLE;
use crate::upstream::pool::is_stale;
use crate::wire::Wire;

pub struct Links {
    location: Location,
    carriage: Carriage,
    /// Whom these connections are for, where the server's name is the request's.
    host: Option<Box<str>>,
    idle: RefCell<Vec<Idle>>,
    by_host: RefCell<HashMap<Box<str>, Rc<Links>>>,
}

struct Idle {
    wire: Wire,
    since_us: u64,
}

/// A connection given to one request.
pub struct Link {
    pub wire: Wire,
    /// It has carried a request before.
    pub reused: bool,
}

impl Links {
    pub fn new(location: Location, carriage: Carriage, host: Option<Box<str>>) -> Rc<Links> {
        let (idle, by_host) = (RefCell::default(), RefCell::default());
        Rc::new(Links { location, carriage, host, idle, by_host })
    }

    /// Does it matter whom a request is for?
    pub fn asks_for_host(&self) -> bool {
        self.host.is_none() && self.carriage.asks_for_host()
    }

    /// Those for requests of this host; the same for all where it does not matter.
    pub fn of(self: &Rc<Self>, host: &str) -> Rc<Links> {
        if !self.asks_for_host() {
            return self.clone();
        }
        let mut by_host = self.by_host.borrow_mut();
        if by_host.len() >= MAX_HOSTS && !by_host.contains_key(host) {
            by_host.clear();
        }
        let new = || Links::new(self.location.clone(), self.carriage.clone(), Some(host.into()));
        by_host.entry(host.into()).or_insert_with(new).clone()
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    /// A kept connection. Unless the request may be sent twice, the kernel is
    /// asked whether it is still open: the reactor may hear of it too late.
    pub fn take(&self, repeatable: bool) -> Option<Link> {
        loop {
            let Idle { mut wire, .. } = self.idle.borrow_mut().pop()?;
            // Readable means closed, or answering a question nobody has asked.
            if wire.is_quiet() && (repeatable || wire.is_open()) {
                return Some(Link { wire, reused: true });
            }
        }
    }

    /// `ends` are the client's, where it is told of.
    pub async fn dial(&self, timeout: Duration, ends: Option<Ends>) -> Result<Link, Fault> {
        let dialed = connect::dial(&self.carriage, &self.location, self.host.as_deref(), ends, timeout);
        Ok(Link { wire: dialed.await?, reused: false })
    }

    pub fn give_back(&self, link: Link) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && self.carriage.proxy_header.is_none() {
            idle.push(Idle { wire: link.wire, since_us: clock::recent_us() });
        }
    }

    /// Closes what has waited too long.
    pub fn expire(&self, now_us: u64) {
        self.idle.borrow_mut().retain(|idle| !is_stale(idle.since_us, now_us));
        self.by_host.borrow_mut().retain(|_, links| {
            links.expire(now_us);
            Rc::strong_count(links) > 1 || !links.idle.borrow().is_empty()
        });
    }
}
