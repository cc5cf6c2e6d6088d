//! A listener as its connections use it: looked up once for each of them, so
//! that a reload reaches every connection that is accepted after it.

use std::sync::Arc;

use crate::model::Limits;
use crate::model::Listener;
use crate::tally::Count;

pub struct ListenerPlan {
    pub name: String,
    pub limits: Limits,
    pub occupancy: Arc<Occupancy>,
}

/// The open connections of one listener, each worker counting its own. Outlives
/// a reload by the listener's name.
pub struct Occupancy(Box<[Seats]>);

#[derive(Default)]
#[repr(align(128))]
struct Seats {
    opened: Count,
    closed: Count,
}

impl ListenerPlan {
    pub fn new(listener: &Listener, before: Option<&Arc<ListenerPlan>>, workers: usize) -> Arc<ListenerPlan> {
        let occupancy = match before {
            Some(before) => before.occupancy.clone(),
            None => Arc::new(Occupancy((0..workers).map(|_| Seats::default()).collect())),
        };
        Arc::new(ListenerPlan { name: listener.name.clone(), limits: listener.limits.clone(), occupancy })
    }
}

impl Occupancy {
    pub fn enter(&self, worker: usize) {
        self.0[worker].opened.add(1);
    }

    pub fn leave(&self, worker: usize) {
        self.0[worker].closed.add(1);
    }

    pub fn total(&self) -> u64 {
        let open = |seats: &Seats| {
            // In this order, so that nobody seems to have left before he came.
            let closed = seats.closed.get();
            seats.opened.get().saturating_sub(closed)
        };
        self.0.iter().map(open).sum()
    }
}
