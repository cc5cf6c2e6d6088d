//! A listener as its connections use it: looked up once for each of them, so
//! that a reload reaches every connection that is accepted after it.

use std::sync::Arc;

use crate::manners::Manners;
use crate::model::Forwarded;
use crate::model::Limits;
use crate::model::Listener;
use crate::model::ProxyProtocol;
use crate::model::ServerTls;
use crate::tally::Count;
use crate::tls;

pub struct ListenerPlan {
    pub name: String,
    pub limits: Limits,
    pub occupancy: Arc<Occupancy>,
    pub tls: Option<Arc<tls::ServerPlan>>,
    /// What `tls` was made of.
    asked: Option<ServerTls>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub forwarded: Forwarded,
    /// None where there are none to mind.
    pub manners: Option<Arc<Manners>>,
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
    /// `before` is the listener of this name until now. A problem says where in
    /// the listener it is.
    pub fn new(
        listener: &Listener,
        before: Option<&Arc<ListenerPlan>>,
        workers: usize,
    ) -> Result<Arc<ListenerPlan>, Vec<tls::Fault>> {
        let occupancy = match before {
            Some(before) => before.occupancy.clone(),
            None => Arc::new(Occupancy((0..workers).map(|_| Seats::default()).collect())),
        };
        let manners = before.and_then(|before| before.manners.as_deref());
        let manners = Manners::new(listener, manners).map_err(|fault| vec![fault])?;
        let known = before.and_then(|before| Some((before.asked.as_ref()?, before.tls.as_ref()?)));
        let tls = match (&listener.tls, known) {
            (None, _) => None,
            (Some(asked), Some((was, plan))) if asked == was => Some(plan.clone()),
            (Some(asked), known) => {
                let known = known.map(|(was, plan)| (was, &**plan));
                let faulty = |faults: Vec<tls::Fault>| {
                    faults.into_iter().map(|(place, text)| (format!("tls.{place}"), text)).collect::<Vec<_>>()
                };
                Some(Arc::new(tls::ServerPlan::new(asked, known).map_err(faulty)?))
            }
        };
        Ok(Arc::new(ListenerPlan {
            name: listener.name.clone(),
            limits: listener.limits.clone(),
            occupancy,
            tls,
            asked: listener.tls.clone(),
            proxy_protocol: listener.proxy_protocol.clone(),
            forwarded: listener.forwarded.clone(),
            manners: manners.map(Arc::new),
        }))
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
