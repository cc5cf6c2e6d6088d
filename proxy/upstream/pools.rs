//! All connections of one worker to endpoints, by where these are: versions that
//! share an endpoint, and speak with it alike, share its connections.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::carriage::Carriage;
use crate::carriage::Mark;
use crate::location::Location;
use crate::upstream::Links;
use crate::upstream::Pool;

#[derive(Default)]
pub struct Pools {
    hyper: RefCell<HashMap<(Location, Mark), Rc<Pool>>>,
    plain: RefCell<HashMap<(Location, Mark), Rc<Links>>>,
}

impl Pools {
    pub fn pool(&self, location: &Location, carriage: &Carriage) -> Rc<Pool> {
        let key = (location.clone(), carriage.mark());
        let new = || Pool::new(location.clone(), carriage.clone(), None);
        self.hyper.borrow_mut().entry(key).or_insert_with(new).clone()
    }

    pub fn links(&self, location: &Location, carriage: &Carriage) -> Rc<Links> {
        let key = (location.clone(), carriage.mark());
        let new = || Links::new(location.clone(), carriage.clone(), None);
        self.plain.borrow_mut().entry(key).or_insert_with(new).clone()
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
