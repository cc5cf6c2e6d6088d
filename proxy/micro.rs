//! One unit of the request path's work each, so that its cost can be counted alone.
//!
//! The modules behind are private and stay so: what is offered here is work to repeat, not types to
//! build on. Only a build with the feature `micro` has it, which the bench asks for and serin does not.

use std::hint::black_box;
use std::sync::Arc;

pub use crate::h1::micro::read_request;
pub use crate::h1::micro::relay_answer;
pub use crate::h1::micro::write_request;

use crate::h1::micro::with_head;
use crate::head::Head;
use crate::model::Model;
use crate::model::Role;
use crate::outcome::Outcome;
use crate::reading::Sent;
use crate::rewrite::Peer;
use crate::split;
use crate::table::Table;
use crate::tally::Slot;
use crate::tally::SlotKey;

/// A model compiled, and the head of a request for it.
pub struct Routing {
    table: Table,
    head: Vec<u8>,
}

impl Routing {
    /// Fails where the model has problems or the head is irregular.
    pub fn new(model: &Model, head: &[u8]) -> Result<Routing, String> {
        let table = Table::compile(model, None, 1).map_err(|problems| format!("{problems:?}"))?;
        let routing = Routing { table, head: head.to_owned() };
        match routing.with_head(|head| routing.table.find(head, || 0).is_some()) {
            Some(true) => Ok(routing),
            Some(false) => Err("no route takes this head".to_owned()),
            None => Err("the head is irregular".to_owned()),
        }
    }

    /// Finds the route of the head.
    pub fn find(&self, times: u64) {
        self.with_head(|head| {
            for _ in 0..times {
                black_box(self.table.find(black_box(head), || 0).is_some());
            }
        });
    }

    /// Chooses a version of the first split, by its rules, its stickiness or its coin.
    pub fn choose(&self, times: u64) {
        let plan = &self.table.splits[0];
        let generation = plan.cell.generation.load_full();
        let peer = Peer::new((std::net::Ipv4Addr::LOCALHOST, 1).into(), None);
        self.with_head(|head| {
            let mut random = 1_u64;
            for _ in 0..times {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let choice = split::choose(&generation, &plan.rules(""), black_box(head), &peer, random);
                black_box(choice.version);
            }
        });
    }

    fn with_head<T>(&self, act: impl FnOnce(&Head<'_>) -> T) -> Option<T> {
        with_head(&self.head, act)
    }
}

/// Where one worker counts for one version.
pub struct Counting(Arc<Slot>);

impl Default for Counting {
    fn default() -> Counting {
        let (service, version) = ("web".to_owned(), "primary".to_owned());
        Counting(Slot::new(SlotKey { service, version, role: Role::Primary, sent: Sent::ByUsers }, 1))
    }
}

impl Counting {
    /// Counts a request as begun and as ended.
    pub fn count(&self, times: u64) {
        let shard = self.0.shard(0);
        for time in 0..times {
            shard.begin();
            shard.end(black_box(Outcome::of_code(200)), black_box(100 + time % 1024));
        }
    }
}
