//! Plain connections of one worker to one endpoint, kept between requests.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::breaker::Permit;
use crate::carriage::Carriage;
use crate::clock;
use crate::fault::Fault;
use crate::location::Location;
use crate::preamble::Ends;
use crate::rules::Rules;
use crate::upstream::connect;
use crate::upstream::gate::Admitted;
use crate::upstream::gate::Gate;
use crate::upstream::gate::Open;
use crate::upstream::pool::MAX_HOSTS;
use crate::upstream::pool::MAX_IDLE;
use crate::wire::Wire;

pub struct Links {
    location: Location,
    carriage: Carriage,
    /// Whom these connections are for, where the server's name is the request's.
    host: Option<Box<str>>,
    gate: Rc<Gate>,
    idle: RefCell<Vec<Link>>,
    by_host: RefCell<HashMap<Box<str>, Rc<Links>>>,
}

/// A connection given to one request. Boxed for its life: it changes hands several
/// times a request.
pub type Link = Box<Line>;

pub struct Line {
    pub wire: Wire,
    /// It has carried a request before.
    pub reused: bool,
    open: Open,
    /// The place of the request that it is given to.
    request: Option<Permit>,
    idle_since_us: u64,
}

/// What a connection holds of the bounds, apart from it.
pub struct Held {
    _open: Open,
    _request: Option<Permit>,
}

impl Line {
    pub fn into_parts(self) -> (Wire, Held) {
        (self.wire, Held { _open: self.open, _request: self.request })
    }
}

impl Links {
    pub fn new(
        location: Location,
        carriage: Carriage,
        host: Option<Box<str>>,
        rules: &Arc<Rules>,
    ) -> Rc<Links> {
        let (idle, by_host) = (RefCell::default(), RefCell::default());
        Rc::new(Links { location, carriage, host, gate: Gate::new(rules, u32::MAX), idle, by_host })
    }

    /// A reload may have changed the rules.
    pub fn adopt(&self, rules: &Arc<Rules>) {
        self.gate.adopt(rules);
        self.by_host.borrow().values().for_each(|links| links.gate.adopt(rules));
    }

    /// Does it matter whom a request is for?
    pub fn asks_for_host(&self) -> bool {
        self.host.is_none() && self.carriage.asks_for_host()
    }

    /// Those for requests of this host; the same for all where it does not matter.
    /// Each host has a gate of its own: a connection made for another is of no use.
    pub fn of(self: &Rc<Self>, host: &str) -> Rc<Links> {
        if !self.asks_for_host() {
            return self.clone();
        }
        let mut by_host = self.by_host.borrow_mut();
        if by_host.len() >= MAX_HOSTS && !by_host.contains_key(host) {
            by_host.clear();
        }
        let (location, carriage) = (&self.location, &self.carriage);
        let new = || Links::new(location.clone(), carriage.clone(), Some(host.into()), &self.gate.rules());
        by_host.entry(host.into()).or_insert_with(new).clone()
    }

    pub fn location(&self) -> &Location {
        &self.location
    }

    /// A kept connection, if there is one and nobody waits for it. Unless the
    /// request may be sent twice, the kernel is asked whether it is still open:
    /// the reactor may hear of it too late.
    pub fn take(&self, repeatable: bool) -> Result<Option<Link>, Fault> {
        if self.gate.is_crowded() {
            return Ok(None);
        }
        let Some(mut link) = self.take_idle(repeatable) else { return Ok(None) };
        link.reused = true;
        self.lend(link).map(Some)
    }

    /// A new connection; where there may be none, the next that is given back.
    /// `ends` are the client's, where it is told of.
    pub async fn open(
        &self,
        fresh: bool,
        repeatable: bool,
        timeout: Duration,
        ends: Option<Ends>,
    ) -> Result<Link, Fault> {
        let _pending = self.gate.pending()?;
        match self.gate.admit(fresh, || self.take_idle(repeatable)).await? {
            Admitted::Kept(mut link) => {
                link.reused = true;
                self.lend(link)
            }
            Admitted::New(open) => {
                let (carriage, host) = (&self.carriage, self.host.as_deref());
                // Boxed, as it is rare and holds a handshake: what waits for it stays small.
                let dialled = Box::pin(connect::dial(carriage, &self.location, host, ends, timeout));
                let wire = dialled.await?;
                self.lend(Box::new(Line { wire, reused: false, open, request: None, idle_since_us: 0 }))
            }
        }
    }

    pub fn give_back(&self, link: Link) {
        if !link.open.is_spent() {
            self.keep(link);
        }
    }

    /// Closes what has waited too long.
    pub fn expire(&self, now_us: u64) {
        let rules = self.gate.rules().clone();
        // Collected first: each that is closed lets somebody else in.
        let mut idle = self.idle.borrow_mut();
        let stale = |idle: &mut Link| rules.is_stale(idle.idle_since_us, now_us);
        let closed: Vec<Link> = idle.extract_if(.., stale).collect();
        drop(idle);
        drop(closed);
        self.by_host.borrow_mut().retain(|_, links| {
            links.expire(now_us);
            Rc::strong_count(links) > 1 || !links.idle.borrow().is_empty()
        });
    }

    fn take_idle(&self, repeatable: bool) -> Option<Link> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            // Readable means closed, or answering a question nobody has asked.
            if idle.wire.is_quiet() && (repeatable || idle.wire.is_open()) {
                return Some(idle);
            }
        }
    }

    fn lend(&self, mut link: Link) -> Result<Link, Fault> {
        match self.gate.request() {
            Ok(request) => {
                link.request = request;
                link.open.serve();
                Ok(link)
            }
            Err(full) => {
                self.keep(link);
                Err(full)
            }
        }
    }

    fn keep(&self, mut link: Link) {
        link.request = None;
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE && self.carriage.proxy_header.is_none() {
            link.idle_since_us = clock::recent_us();
            idle.push(link);
            drop(idle);
            self.gate.free();
        }
    }
}
