//! All connections of one worker to endpoints, by where these are: versions that
//! share an endpoint, and speak with it alike, share its connections, unless they
//! bound them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::carriage::Carriage;
use crate::carriage::Mark;
use crate::location::Location;
use crate::rules::Rules;
use crate::upstream::Links;
use crate::upstream::Pool;

/// The version whose connections these are, where it has rules of its own.
type Owner = Option<usize>;

fn owner(rules: &Rules) -> Owner {
    (!rules.usual).then(|| rules.breaker.identity())
}

type Key = (Location, Mark, Owner);

#[derive(Default)]
pub struct Pools {
    hyper: RefCell<HashMap<Key, Rc<Pool>>>,
    plain: RefCell<HashMap<Key, Rc<Links>>>,
}

impl Pools {
    pub fn pool(&self, location: &Location, carriage: &Carriage, rules: &Arc<Rules>) -> Rc<Pool> {
        let key = (location.clone(), carriage.mark(), owner(rules));
        let new = || Pool::new(location.clone(), carriage.clone(), None, rules);
        let pool = self.hyper.borrow_mut().entry(key).or_insert_with(new).clone();
        pool.adopt(rules);
        pool
    }

    pub fn links(&self, location: &Location, carriage: &Carriage, rules: &Arc<Rules>) -> Rc<Links> {
        let key = (location.clone(), carriage.mark(), owner(rules));
        let new = || Links::new(location.clone(), carriage.clone(), None, rules);
        let links = self.plain.borrow_mut().entry(key).or_insert_with(new).clone();
        links.adopt(rules);
        links
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
