//! All connections of one worker to endpoints, by where these are: versions that
//! share an endpoint share its connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::location::Location;
use crate::model::Protocol;
use crate::upstream::Links;
use crate::upstream::Pool;

#[derive(Default)]
pub struct Pools {
    /// With whether HTTP/2 is spoken.
    hyper: RefCell<HashMap<(Location, bool), Rc<Pool>>>,
    plain: RefCell<HashMap<Location, Rc<Links>>>,
}

impl Pools {
    pub fn pool(&self, location: &Location, protocol: Protocol) -> Rc<Pool> {
        let key = (location.clone(), protocol == Protocol::Http2);
        self.hyper.borrow_mut().entry(key).or_insert_with(|| Pool::new(location.clone(), protocol)).clone()
    }

    pub fn links(&self, location: &Location) -> Rc<Links> {
        let mut plain = self.plain.borrow_mut();
        plain.entry(location.clone()).or_insert_with(|| Links::new(location.clone())).clone()
    }

    /// Closes connections that have waited too long for a request, and all that
    /// wait at endpoints which no version has any more.
    pub fn expire(&self, now_us: u64) {
        let (mut hyper, mut plain) = (self.hyper.borrow_mut(), self.plain.borrow_mut());
        hyper.retain(|_, pool| Rc::strong_count(pool) > 1);
        plain.retain(|_, links| Rc::strong_count(links) > 1);
        hyper.values().for_each(|pool| pool.expire(now_us));
        plain.values().for_each(|links| links.expire(now_us));
    }
}
