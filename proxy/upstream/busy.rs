//! A request that an endpoint has under way, where the endpoint's version asks
//! for the least busy one.
//!
//! This is the one number of the request path that workers write together. What
//! matters is how busy the endpoint is, not how busy one worker keeps it, and a
//! version that does not choose by it never touches it.

use std::sync::Arc;

use crate::hosts::Vitals;

pub struct Busy(Arc<Vitals>);

impl Busy {
    pub fn new(vitals: &Arc<Vitals>) -> Busy {
        vitals.begin();
        Busy(vitals.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.end();
    }
}
