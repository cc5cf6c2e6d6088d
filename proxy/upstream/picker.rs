//! Chooses the endpoint that gets a request: one worker's picker for one version.
//!
//! Both codecs ask the same picker. It follows the version's lineup by comparing
//! one pointer per request, and but for the requests under way that least request
//! counts it keeps nothing that another worker sees.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use arc_swap::Cache;

use crate::balance::Turns;
use crate::balance::slowed;
use crate::carriage::Carriage;
use crate::clock;
use crate::hosts::Host;
use crate::hosts::Hosts;
use crate::hosts::Lineup;
use crate::hosts::Tier;
use crate::model::Algorithm;
use crate::model::Balance;
use crate::rules::Rules;
use crate::upstream::Busy;
use crate::upstream::Links;
use crate::upstream::Pool;
use crate::upstream::Pools;

pub struct Picker {
    pools: Rc<Pools>,
    carriage: Carriage,
    rules: Arc<Rules>,
    balance: Balance,
    state: RefCell<State>,
}

struct State {
    cache: Cache<Arc<ArcSwap<Lineup>>, Arc<Lineup>>,
    lineup: Arc<Lineup>,
    /// In the order of the lineup.
    backends: Vec<Rc<Backend>>,
    /// By tier.
    orders: Vec<Order>,
}

/// How the endpoints of one tier take turns.
enum Order {
    Cycle(Cell<usize>),
    /// Weights differ, or some are still slowed.
    Turns(RefCell<Turns>),
    /// Sums of weights, each with those before it.
    Dice(Vec<u64>),
    Least,
    /// The lineup's table.
    Hash,
}

/// One endpoint as one worker uses it.
pub struct Backend {
    pub host: Arc<Host>,
    pub pool: Rc<Pool>,
    pub links: Rc<Links>,
    counts_busy: bool,
}

/// What an endpoint is chosen by.
pub struct Wish<'a> {
    /// The request's hash, where the route makes one.
    pub hash: Option<u64>,
    pub random: &'a dyn Fn() -> u64,
}

impl Picker {
    pub fn new(hosts: &Hosts, carriage: &Carriage, rules: &Arc<Rules>, pools: &Rc<Pools>) -> Picker {
        let mut cache = Cache::new(hosts.watched());
        let lineup = cache.load().clone();
        let state = State { cache, lineup, backends: Vec::new(), orders: Vec::new() };
        let (balance, pools) = (hosts.balance.clone(), pools.clone());
        let (carriage, rules) = (carriage.clone(), rules.clone());
        let picker = Picker { pools, carriage, rules, balance, state: RefCell::new(state) };
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
        let hash = || wish.hash.unwrap_or_else(wish.random);
        let tier = match state.orders.len() {
            0 => return None,
            1 => 0,
            _ if self.balance.algorithm.hashes() => state.lineup.tier(hash())?,
            _ => state.lineup.tier((wish.random)())?,
        };
        let (order, tier) = (&state.orders[tier], &state.lineup.tiers[tier]);
        let open = &tier.open;
        let position = match order {
            Order::Cycle(turn) => {
                let position = turn.get().checked_rem(open.len())?;
                turn.set(position + 1);
                position
            }
            Order::Turns(turns) => {
                turns.borrow_mut().next(|position| self.weight(&state.lineup, open[position]))?
            }
            Order::Dice(sums) => {
                let point = (wish.random)().checked_rem(*sums.last()?)?;
                sums.partition_point(|sum| *sum <= point)
            }
            Order::Least => self.least(&state, open, wish.random)?,
            Order::Hash => tier.find(hash(), attempt)?,
        };
        Some(state.backends[open[position]].clone())
    }

    /// Of some at random the one with the fewest requests under way.
    fn least(&self, state: &State, open: &[usize], random: &dyn Fn() -> u64) -> Option<usize> {
        let Algorithm::LeastRequest { choices, .. } = self.balance.algorithm else { return None };
        let draw = || (random() % open.len().max(1) as u64) as usize;
        let busy =
            |position: &usize| open.get(*position).map(|index| state.lineup.hosts[*index].vitals.under_way());
        (0..choices).map(|_| draw()).min_by_key(busy).filter(|position| *position < open.len())
    }

    /// What an endpoint's weight counts for now.
    fn weight(&self, lineup: &Lineup, index: usize) -> f64 {
        let host = &lineup.hosts[index];
        let weight = match self.balance.algorithm {
            Algorithm::LeastRequest { bias, .. } if bias > 0.0 => {
                f64::from(host.weight) / (host.vitals.under_way() as f64 + 1.0).powf(bias)
            }
            _ => f64::from(host.weight),
        };
        match &self.balance.slow_start {
            Some(slow) => {
                let age_us = clock::recent_us().saturating_sub(host.vitals.fresh_us());
                slowed(weight, Duration::from_micros(age_us), slow)
            }
            None => weight,
        }
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
        let counts_busy = matches!(self.balance.algorithm, Algorithm::LeastRequest { .. });
        let backend = |host: &Arc<Host>| {
            Rc::new(Backend {
                host: host.clone(),
                pool: self.pools.pool(&host.location, &self.carriage, &self.rules),
                links: self.pools.links(&host.location, &self.carriage, &self.rules),
                counts_busy,
            })
        };
        state.backends = state.lineup.hosts.iter().map(backend).collect();
        state.orders = state.lineup.tiers.iter().map(|tier| self.order(&state.lineup, tier)).collect();
    }

    fn order(&self, lineup: &Lineup, tier: &Tier) -> Order {
        let begin = rand::random_range(0..tier.open.len().max(1));
        let weights = || tier.open.iter().map(|index| lineup.hosts[*index].weight);
        match self.balance.algorithm {
            Algorithm::RingHash { .. } | Algorithm::Maglev { .. } => Order::Hash,
            Algorithm::Random => Order::Dice(
                weights()
                    .scan(0, |sum, weight| {
                        *sum += u64::from(weight);
                        Some(*sum)
                    })
                    .collect(),
            ),
            Algorithm::RoundRobin | Algorithm::LeastRequest { .. } => {
                let differ = weights().any(|weight| Some(weight) != weights().next());
                if differ || tier.open.iter().any(|index| self.is_slowed(&lineup.hosts[*index])) {
                    let weight = |position: usize| self.weight(lineup, tier.open[position]);
                    Order::Turns(RefCell::new(Turns::new(tier.open.len(), weight, begin)))
                } else if self.balance.algorithm == Algorithm::RoundRobin {
                    Order::Cycle(Cell::new(begin))
                } else {
                    Order::Least
                }
            }
        }
    }

    fn is_slowed(&self, host: &Host) -> bool {
        let Some(slow) = &self.balance.slow_start else { return false };
        clock::recent_us().saturating_sub(host.vitals.fresh_us()) < clock::us(slow.window)
    }
}

impl Backend {
    /// To be kept as long as the request is under way here.
    pub fn begin(&self) -> Option<Busy> {
        self.counts_busy.then(|| Busy::new(&self.host.vitals))
    }
}
