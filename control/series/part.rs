//! One part of a page, and the past of its series: what is told of one thing, such
//! as a version or a rollout.
//!
//! What is told each second is mostly what was told the second before. So a part
//! whose state did not change is only marked as seen, and of a value that did not
//! change nothing is written: it holds, and what its series lacks is added when
//! something else happens to it ([`Encoder::hold`]). Where a part is told in the
//! shape that it had, its series are known by their places and no label is read.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;

use super::codes::Encoder;
use super::labels::Labels;

/// Moments in one block: the unit in which the past is given up.
pub const BLOCK: usize = 1024;

/// What a part is told under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Equal for as long as all its values are; `None` where it is to be told anew.
    pub state: Option<u64>,
    /// Equal for as long as its series are the same, in the same order; `None`
    /// where that is not known.
    pub shape: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Part {
    told: Option<Told>,
    /// The last moment at which it was there, counted from the first.
    seen: u64,
    /// In the telling that goes on, or the last one: so many of the members, from
    /// the first, were told, in this order.
    count: usize,
    /// All that was told is kept.
    is_whole: bool,
    by_place: bool,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// The hash of its name and labels.
    key: u64,
    value: f64,
    /// The value holds for as long as the part is seen.
    holds: bool,
    series: Box<Series>,
}

#[derive(Debug)]
pub struct Series {
    pub labels: Labels,
    blocks: VecDeque<Block>,
    head: Encoder,
}

#[derive(Debug)]
struct Block {
    number: u64,
    bytes: Arc<[u8]>,
}

/// A moment: counted from the first, and within the open block.
#[derive(Clone, Copy)]
pub struct Now {
    pub moment: u64,
    pub index: usize,
}

impl Now {
    /// How many moments of the open block lie before the end of this one.
    fn covered(self, moment: u64) -> usize {
        (moment + 1 + self.index as u64).saturating_sub(self.moment) as usize
    }
}

impl Part {
    /// Whether there is nothing new to say of it: it was there a moment ago, just
    /// as it is now. Then it goes on.
    pub fn goes_on(&mut self, now: Now, told: Told, is_full: bool) -> bool {
        let is_same = told.state.is_some() && self.told == Some(told) && (self.is_whole || is_full);
        if self.seen == now.moment {
            return true;
        }
        let goes_on = is_same && self.seen + 1 == now.moment;
        if goes_on {
            self.seen = now.moment;
        }
        goes_on
    }

    /// The same of one that is known to be told as it was.
    pub fn rests(&mut self, now: Now, is_full: bool) -> bool {
        self.told.is_some_and(|told| self.goes_on(now, told, is_full))
    }

    pub fn begin(&mut self, now: Now, told: Told) {
        if self.seen + 1 != now.moment {
            self.end_from(0, now);
        }
        let shape = self.told.and_then(|told| told.shape);
        self.by_place = self.is_whole && told.shape.is_some() && told.shape == shape;
        self.told = Some(told);
        self.seen = now.moment;
        (self.count, self.is_whole) = (0, true);
    }

    /// The series whose turn it is, where places tell.
    pub fn put_next(&mut self, now: Now, value: f64) -> Option<u64> {
        let member = self.members.get_mut(self.count).filter(|_| self.by_place)?;
        member.put(now, value);
        self.count += 1;
        Some(member.key)
    }

    pub fn is_by_place(&self) -> bool {
        self.by_place && self.count < self.members.len()
    }

    /// Whether this series is one of ours.
    pub fn put(&mut self, now: Now, key: u64, value: f64) -> bool {
        self.by_place = false;
        let sought = |member: &Member| member.key == key;
        if let Some(ahead) = self.members[self.count..].iter().position(sought) {
            self.members.swap(self.count, self.count + ahead);
            self.members[self.count].put(now, value);
            self.count += 1;
            return true;
        }
        // Of two with the same labels the first counts; then places do not tell.
        let is_told = self.members[..self.count].iter().any(sought);
        self.is_whole &= !is_told;
        is_told
    }

    /// Adds a series and answers with the memory that it takes.
    pub fn add(&mut self, now: Now, key: u64, series: Box<Series>, value: f64) -> usize {
        let mut member = Member { key, value, holds: false, series };
        member.put(now, value);
        let size = member.overhead();
        self.members.push(member);
        let last = self.members.len() - 1;
        self.members.swap(self.count, last);
        self.count += 1;
        size
    }

    /// Something that was told is not kept.
    pub fn lack(&mut self) {
        self.is_whole = false;
    }

    /// Whether it may yet be told at this moment, or was.
    pub fn is_about(&self, now: Now) -> bool {
        self.seen + 1 >= now.moment
    }

    /// Gives a series away that was told here once.
    pub fn release(&mut self, key: u64, now: Now) -> Option<Box<Series>> {
        let at = self.members.iter().position(|member| member.key == key)?;
        let mut member = self.members.swap_remove(at);
        member.end(now.covered(self.seen));
        (self.count, self.told, self.is_whole) = (0, None, false);
        Some(member.series)
    }

    /// What was not told has ended.
    pub fn end(&mut self, now: Now) {
        self.end_from(self.count, now);
    }

    fn end_from(&mut self, first: usize, now: Now) {
        let until = now.covered(self.seen.min(now.moment - 1));
        for member in &mut self.members[first..] {
            member.end(until);
        }
    }

    /// Closes the block that ends with `now`, and answers with the bytes it takes.
    pub fn close(&mut self, number: u64, now: Now) -> usize {
        let until = now.covered(self.seen);
        let is_there = self.seen == now.moment;
        self.members.iter_mut().map(|member| member.close(number, now.index + 1, until, is_there)).sum()
    }

    /// Forgets blocks before `oldest`, and series of which nothing is left; answers
    /// with their keys and adds to `freed` what was set free.
    pub fn forget(&mut self, oldest: u64, freed: &mut usize) -> Vec<u64> {
        let (mut gone, mut place) = (Vec::new(), 0);
        self.members.retain_mut(|member| {
            *freed += member.series.forget(oldest);
            let is_kept = member.holds || member.series.is_there();
            if !is_kept {
                *freed += member.overhead();
                gone.push(member.key);
                if place < self.count {
                    self.told = None;
                }
            }
            place += 1;
            is_kept
        });
        self.count = self.count.min(self.members.len());
        gone
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Memory of what is not yet closed.
    pub fn open_bytes(&self) -> usize {
        self.members.iter().map(|member| member.series.head.len()).sum()
    }

    /// Each series with its value at this very moment, if it has one.
    pub fn latest(&self, now: Now) -> impl Iterator<Item = (&Series, f64)> {
        let is_there = self.seen == now.moment;
        let members = self.members.iter().filter(move |member| is_there && member.holds);
        members.map(|member| (&*member.series, member.value))
    }

    /// Each series with what reads its bytes of a block; of the open one that is
    /// all until now.
    pub fn series(&self, now: Now) -> impl Iterator<Item = (&Series, impl Fn() -> Vec<u8>)> {
        let until = now.covered(self.seen);
        self.members.iter().map(move |member| {
            let hold = member.holds.then_some((until, member.value));
            (&*member.series, move || member.series.head.snapshot(now.index + 1, hold))
        })
    }
}

impl Member {
    fn put(&mut self, now: Now, value: f64) {
        if self.holds && self.value.to_bits() == value.to_bits() {
            return;
        }
        if self.holds {
            self.series.head.hold(now.index, self.value);
        }
        self.series.head.put(now.index, value);
        (self.value, self.holds) = (value, true);
    }

    fn end(&mut self, until: usize) {
        if std::mem::take(&mut self.holds) {
            self.series.head.hold(until, self.value);
        }
    }

    fn close(&mut self, number: u64, moments: usize, until: usize, is_there: bool) -> usize {
        if self.holds {
            self.series.head.hold(until, self.value);
            self.holds = is_there;
        }
        let bytes = self.series.head.close(moments);
        if bytes.is_empty() {
            return 0;
        }
        self.series.keep(number, bytes.into())
    }

    /// Its share of the tables, and its labels; their texts are mostly shared.
    fn overhead(&self) -> usize {
        size_of::<Member>() + size_of::<Series>() + size_of::<(u64, u64)>() + self.series.labels.size()
    }
}

impl Series {
    pub fn new(labels: Labels) -> Box<Series> {
        Box::new(Series { labels, blocks: VecDeque::new(), head: Encoder::default() })
    }

    pub fn block(&self, number: u64) -> Option<&Arc<[u8]>> {
        let at = self.blocks.binary_search_by_key(&number, |block| block.number).ok()?;
        Some(&self.blocks[at].bytes)
    }

    /// Its values in a block that is closed.
    pub fn keep(&mut self, number: u64, bytes: Arc<[u8]>) -> usize {
        let block = Block { number, bytes };
        let size = block.size();
        self.blocks.push_back(block);
        size
    }

    pub fn is_there(&self) -> bool {
        !self.blocks.is_empty() || !self.head.is_empty()
    }

    /// Answers with the memory that is set free.
    pub fn forget(&mut self, oldest: u64) -> usize {
        let mut freed = 0;
        while self.blocks.front().is_some_and(|block| block.number < oldest) {
            freed += self.blocks.pop_front().map_or(0, |block| block.size());
        }
        freed
    }
}

impl Block {
    /// With what an `Arc` puts before its bytes.
    fn size(&self) -> usize {
        size_of::<Block>() + 16 + self.bytes.len()
    }
}
