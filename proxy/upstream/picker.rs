//! Chooses the endpoint that gets a request: one worker's picker for one version.
//!
//! Both codecs ask the same picker. It follows the version's lineup by comparing
//! one pointer per request, and keeps nothing that another worker sees.

#![allow(dead_code, unused_variables, reason = "hashing algorithms stand on this")]

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::Cache;

use crate::carriage::Carriage;
use crate::hosts::Host;
use crate::hosts::Hosts;
use crate::hosts::Lineup;
use crate::upstream::Links;
use crate::upstream::Pool;
use crate::upstream::Pools;

pub struct Picker {
    pools: Rc<Pools>,
    carriage: Carriage,
    state: RefCell<State>,
}

struct State {
    cache: Cache<Arc<ArcSwap<Lineup>>, Arc<Lineup>>,
    lineup: Arc<Lineup>,
    /// In the order of the lineup.
    backends: Vec<Rc<Backend>>,
    /// By tier: whose turn it is.
    turns: Vec<Cell<usize>>,
}

/// One endpoint as one worker uses it.
pub struct Backend {
    pub host: Arc<Host>,
    pub pool: Rc<Pool>,
    pub links: Rc<Links>,
}

/// What an endpoint is chosen by.
pub struct Wish<'a> {
    /// The request's hash, where the route makes one.
    pub hash: Option<u64>,
    pub random: &'a dyn Fn() -> u64,
}

impl Picker {
    pub fn new(hosts: &Hosts, carriage: &Carriage, pools: &Rc<Pools>) -> Picker {
        let mut cache = Cache::new(hosts.watched());
        let lineup = cache.load().clone();
        let state = State { cache, lineup, backends: Vec::new(), turns: Vec::new() };
        let picker = Picker { pools: pools.clone(), carriage: carriage.clone(), state: RefCell::new(state) };
        picker.rebuild(&mut picker.state.borrow_mut());
        picker
    }

    /// Endpoints there are, healthy or not.
    pub fn len(&self) -> usize {
        self.refresh();
        self.state.borrow().backends.len()
    }

    /// None of the endpoints is well, nor may be.
    pub fn is_down(&self) -> bool {
        self.refresh();
        self.state.borrow().lineup.is_down
    }

    /// So few are well that all are asked.
    pub fn panics(&self) -> bool {
        self.state.borrow().lineup.tiers.iter().any(|tier| tier.panics)
    }

    /// `None` where no endpoint may be asked. `attempt` counts the tries before
    /// this one; a hash leads each of them to another place.
    pub fn pick(&self, wish: &Wish<'_>, attempt: u32) -> Option<Rc<Backend>> {
        self.refresh();
        let state = self.state.borrow();
        let tier = match state.turns.len() {
            0 => return None,
            1 => 0,
            _ => state.lineup.tier((wish.random)())?,
        };
        let open = &state.lineup.tiers[tier].open;
        let turn = state.turns[tier].get();
        state.turns[tier].set(turn.wrapping_add(1));
        let index = open[turn.checked_rem(open.len())?];
        Some(state.backends[index].clone())
    }

    /// Takes the lineup of now; one comparison where it has not changed.
    pub fn refresh(&self) {
        let mut state = self.state.borrow_mut();
        let State { cache, lineup, .. } = &mut *state;
        if !Arc::ptr_eq(cache.load(), lineup) {
            self.rebuild(&mut state);
        }
    }

    fn rebuild(&self, state: &mut State) {
        state.lineup = state.cache.load().clone();
        let backend = |host: &Arc<Host>| {
            Rc::new(Backend {
                host: host.clone(),
                pool: self.pools.pool(&host.location, &self.carriage),
                links: self.pools.links(&host.location, &self.carriage),
            })
        };
        state.backends = state.lineup.hosts.iter().map(backend).collect();
        state.turns.resize(state.lineup.tiers.len(), Cell::new(0));
    }
}
