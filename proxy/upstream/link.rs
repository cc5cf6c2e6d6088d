//! Plain connections of one worker to one endpoint, kept between requests.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::clock;
use crate::fault::Fault;
use crate::location::Location;
use crate::upstream::connect;
use crate::upstream::pool::MAX_IDLE;
use crate::upstream::pool::is_stale;
use crate::wire::Wire;

pub struct Links {
    location: Location,
    idle: RefCell<Vec<Idle>>,
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
    pub fn new(location: Location) -> Rc<Links> {
        Rc::new(Links { location, idle: RefCell::default() })
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

    pub async fn dial(&self, timeout: Duration) -> Result<Link, Fault> {
        Ok(Link { wire: connect::dial(&self.location, timeout).await?, reused: false })
    }

    pub fn give_back(&self, link: Link) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { wire: link.wire, since_us: clock::recent_us() });
        }
    }

    /// Closes what has waited too long.
    pub fn expire(&self, now_us: u64) {
        self.idle.borrow_mut().retain(|idle| !is_stale(idle.since_us, now_us));
    }
}
