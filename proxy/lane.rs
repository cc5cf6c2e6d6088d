//! What one worker owns and shares with nobody: its view of the table, its
//! connections, its requests under way, its dice.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use arc_swap::Cache;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;

use crate::buffer::Buffers;
use crate::buffer::Texts;
use crate::flights::Flights;
use crate::flights::Toss;
use crate::model::Protocol;
use crate::overload::Overload;
use crate::retry::Budget;
use crate::split::Generation;
use crate::table::SplitPlan;
use crate::table::Table;
use crate::tally::Count;
use crate::trio::Trio;
use crate::upstream::Picker;
use crate::upstream::Pools;

pub struct Lane {
    pub index: usize,
    pub buffers: Buffers,
    pub texts: Texts,
    pub flights: Rc<Flights>,
    pub counts: Arc<LaneCounts>,
    /// Handshakes of clients under way.
    pub handshakes: Rc<Cell<usize>>,
    /// Answers to compare: where they go, and how many trios are under way.
    pub trios: mpsc::Sender<Trio>,
    pub comparing: Rc<Cell<usize>>,
    pub overload: Arc<Overload>,
    dice: RefCell<SmallRng>,
    view: RefCell<Cached>,
    pools: Rc<Pools>,
}

/// Counts of a worker that belong to no version.
#[derive(Default)]
#[repr(align(128))]
pub struct LaneCounts {
    pub unrouted: Count,
    pub floods: Count,
    /// Requests refused by a rate limit.
    pub limited: Count,
    /// Requests delayed and aborted by injected faults.
    pub delayed: Count,
    pub aborted: Count,
    pub handshakes: Count,
    pub handshakes_failed: Count,
    /// Requests whose answers were handed out to be compared, and those for which there
    /// was no room.
    pub compared: Count,
    pub compared_dropped: Count,
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
    pub budget: Rc<Budget>,
    /// All versions speak HTTP/1, and nothing of a head depends on who answers.
    pub plain: bool,
    /// Mirrored copies under way.
    pub copies: Rc<Cell<usize>>,
    /// Not before this are the answers to a request compared again.
    pub compared_next_us: Rc<Cell<u64>>,
}

struct CachedToss {
    generation: Cache<Arc<ArcSwap<Generation>>, Arc<Generation>>,
    toss: Rc<Toss>,
}

pub struct VersionView {
    /// Its endpoints, for both codecs.
    pub picker: Picker,
}

impl Lane {
    pub fn new(
        index: usize,
        table: Arc<ArcSwap<Table>>,
        flights: Rc<Flights>,
        counts: Arc<LaneCounts>,
        overload: Arc<Overload>,
        trios: mpsc::Sender<Trio>,
    ) -> Lane {
        let mut table = Cache::new(table);
        let pools = Rc::new(Pools::default());
        let view = Rc::new(View::new(table.load(), None, &pools));
        let dice = RefCell::new(SmallRng::from_rng(&mut rand::rng()));
        let view = RefCell::new(Cached { table, view });
        let (buffers, texts) = (Buffers::default(), Texts::default());
        let (handshakes, comparing) = (Rc::default(), Rc::default());
        Lane {
            index,
            buffers,
            texts,
            flights,
            counts,
            handshakes,
            trios,
            comparing,
            overload,
            dice,
            view,
            pools,
        }
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
        let table = cached.table.load().clone();
        cached.view = Rc::new(View::new(&table, Some(&cached.view), &self.pools));
    }

    pub fn random(&self) -> u64 {
        self.dice.borrow_mut().next_u64()
    }

    /// Closes connections that have waited too long for a request, or wait where
    /// no request goes any more.
    pub fn expire(&self, now_us: u64) {
        let view = self.view();
        let versions = view.splits.iter().flat_map(|split| &split.versions);
        versions.for_each(|version| version.picker.refresh());
        self.pools.expire(now_us);
    }
}

impl View {
    fn new(table: &Arc<Table>, before: Option<&View>, pools: &Rc<Pools>) -> View {
        let known = |plan: &SplitPlan| {
            let before = before?;
            let index = before.table.splits.iter().position(|other| other.cell.name == plan.cell.name)?;
            Some((&before.table.splits[index], &before.splits[index]))
        };
        let splits = table.splits.iter().map(|plan| SplitView::new(plan, known(plan), pools)).collect();
        View { table: table.clone(), splits }
    }
}

impl SplitView {
    /// What was spent of a budget, and the copies under way, outlive a reload.
    fn new(plan: &SplitPlan, before: Option<(&SplitPlan, &SplitView)>, pools: &Rc<Pools>) -> SplitView {
        let mut generation = Cache::new(plan.cell.generation.clone());
        let toss = Rc::new(Toss { cell: plan.cell.clone(), generation: generation.load().clone() });
        let versions = plan
            .versions
            .iter()
            .map(|version| VersionView {
                picker: Picker::new(&version.hosts, &version.carriage, &version.rules, pools),
            })
            .collect();
        SplitView {
            toss: RefCell::new(CachedToss { generation, toss }),
            versions,
            // Whoever answers in a version's place would get another head than that had.
            plain: (plan.shield.is_none() || plan.versions.iter().all(|version| version.edits.is_none()))
                && plan.versions.iter().all(|version| version.protocol == Protocol::Http1),
            budget: match before {
                Some((old, view)) if old.shield == plan.shield => view.budget.clone(),
                _ => Rc::new(plan.shield.as_ref().map(Budget::new).unwrap_or_default()),
            },
            copies: before.map(|(_, view)| view.copies.clone()).unwrap_or_default(),
            compared_next_us: before.map(|(_, view)| view.compared_next_us.clone()).unwrap_or_default(),
        }
    }

    /// Of the primary's requests, the share that a trial copies just now.
    pub fn copied(&self) -> u32 {
        self.toss().generation.weights.copied()
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
