//! What one worker owns and shares with nobody: its view of the table, its
//! connections, its requests under way, its dice.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::Cache;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::flights::Flights;
use crate::flights::Toss;
use crate::model::Protocol;
use crate::retry::Budget;
use crate::split::Generation;
use crate::table::SplitPlan;
use crate::table::Table;
use crate::tally::Count;
use crate::upstream::Pool;

pub struct Lane {
    pub index: usize,
    pub flights: Rc<Flights>,
    pub counts: Arc<LaneCounts>,
    dice: RefCell<SmallRng>,
    view: RefCell<Cached>,
    pools: RefCell<HashMap<(SocketAddr, bool), Rc<Pool>>>,
}

/// Counts of a worker that belong to no version.
#[derive(Default)]
#[repr(align(128))]
pub struct LaneCounts {
    pub unrouted: Count,
    pub opened: Count,
    pub closed: Count,
}

struct Cached {
    table: Cache<Arc<ArcSwap<Table>>, Arc<Table>>,
    view: Rc<View>,
}

/// The table as one worker uses it.
pub struct View {
    pub table: Arc<Table>,
    pub splits: Vec<SplitView>,
}

pub struct SplitView {
    toss: RefCell<CachedToss>,
    pub versions: Vec<VersionView>,
    pub budget: Budget,
    /// Mirrored copies under way.
    pub copies: Rc<Cell<usize>>,
}

struct CachedToss {
    generation: Cache<Arc<ArcSwap<Generation>>, Arc<Generation>>,
    toss: Rc<Toss>,
}

pub struct VersionView {
    pools: Vec<Rc<Pool>>,
    next: Cell<usize>,
}

impl Lane {
    pub fn new(
        index: usize,
        table: Arc<ArcSwap<Table>>,
        flights: Rc<Flights>,
        counts: Arc<LaneCounts>,
    ) -> Lane {
        let pools = RefCell::default();
        let mut table = Cache::new(table);
        let view = Rc::new(View::new(table.load(), &mut HashMap::new()));
        let dice = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
        let lane = Lane { index, flights, counts, dice, view: RefCell::new(Cached { table, view }), pools };
        lane.rebuild();
        lane
    }

    /// The table of now; costs one comparison where it has not changed.
    pub fn view(&self) -> Rc<View> {
        let mut cached = self.view.borrow_mut();
        let Cached { table, view } = &mut *cached;
        if !Arc::ptr_eq(table.load(), &view.table) {
            drop(cached);
            self.rebuild();
            return self.view.borrow().view.clone();
        }
        cached.view.clone()
    }

    fn rebuild(&self) {
        let mut cached = self.view.borrow_mut();
        let mut pools = self.pools.borrow_mut();
        let table = cached.table.load().clone();
        cached.view = Rc::new(View::new(&table, &mut pools));
        pools.retain(|_, pool| Rc::strong_count(pool) > 1);
    }

    pub fn random(&self) -> u64 {
        self.dice.borrow_mut().next_u64()
    }

    /// Closes connections that have waited too long for a request.
    pub fn expire(&self, now_us: u64) {
        for pool in self.pools.borrow().values() {
            pool.expire(now_us);
        }
    }
}

impl View {
    fn new(table: &Arc<Table>, pools: &mut HashMap<(SocketAddr, bool), Rc<Pool>>) -> View {
        let splits = table.splits.iter().map(|plan| SplitView::new(plan, pools)).collect();
        View { table: table.clone(), splits }
    }
}

impl SplitView {
    fn new(plan: &SplitPlan, pools: &mut HashMap<(SocketAddr, bool), Rc<Pool>>) -> SplitView {
        let mut generation = Cache::new(plan.cell.generation.clone());
        let toss = Rc::new(Toss { cell: plan.cell.clone(), generation: generation.load().clone() });
        let versions = plan
            .versions
            .iter()
            .map(|version| VersionView {
                pools: version
                    .endpoints
                    .iter()
                    .map(|address| pool(pools, *address, version.protocol))
                    .collect(),
                next: Cell::new(0),
            })
            .collect();
        SplitView {
            toss: RefCell::new(CachedToss { generation, toss }),
            versions,
            budget: plan.shield.as_ref().map(Budget::new).unwrap_or_default(),
            copies: Rc::default(),
        }
    }

    /// The generation of now; costs one comparison where it has not changed.
    pub fn toss(&self) -> Rc<Toss> {
        let mut cached = self.toss.borrow_mut();
        let CachedToss { generation, toss } = &mut *cached;
        let generation = generation.load();
        if !Arc::ptr_eq(generation, &toss.generation) {
            *toss = Rc::new(Toss { cell: toss.cell.clone(), generation: generation.clone() });
        }
        toss.clone()
    }
}

impl VersionView {
    pub fn endpoints(&self) -> usize {
        self.pools.len()
    }

    /// The endpoint whose turn it is.
    pub fn next(&self) -> Option<&Rc<Pool>> {
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        self.pools.get(turn.checked_rem(self.pools.len())?)
    }
}

fn pool(
    pools: &mut HashMap<(SocketAddr, bool), Rc<Pool>>,
    address: SocketAddr,
    protocol: Protocol,
) -> Rc<Pool> {
    let key = (address, protocol == Protocol::Http2);
    pools.entry(key).or_insert_with(|| Pool::new(address, protocol)).clone()
}
