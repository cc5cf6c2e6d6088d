//! The past of a process before us, until its series are told of again.
//!
//! It comes in whole blocks, which stand before the first of our own. A series that
//! is told of takes its blocks over; of one that nobody tells of any more they are
//! found here, and are forgotten with the rest.

use std::mem::size_of;
use std::sync::Arc;

use super::labels::Labels;
use super::part::Series;
use super::piece::Piece;
use super::{Inner, MOST_SERIES, Store};

/// Blocks further apart than this have a time between them in which nobody counted.
const GAP_MS: i64 = 3_000;
/// After its last moment a series of the past ends so much later.
const END_MS: i64 = 1_000;

impl Store {
    /// Takes over these blocks, oldest first, where nothing has been written yet.
    /// What does not come one after the other, or is not over at `now`, is left out.
    pub fn restore(&self, pieces: Vec<Piece>, now: i64) {
        let mut inner = self.inner();
        if inner.open > 0 || !inner.times.is_empty() {
            return;
        }
        let mut pieces = pieces.into_iter().filter(|piece| piece.last().is_some_and(|last| last < now));
        let mut next = pieces.next();
        while let Some(piece) = next {
            let last = piece.last();
            next = pieces.find(|later| later.times.first().copied() > last);
            let follows = next.as_ref().map_or(now, |next| next.times[0]);
            inner.restore(piece, follows);
        }
    }

    /// How many there are that are over.
    pub fn blocks(&self) -> u64 {
        self.inner().open
    }

    /// Blocks from this one on, with their numbers; the open one is the last, and
    /// grows yet.
    pub fn pieces(&self, from: u64) -> Vec<(u64, Piece)> {
        let inner = self.inner();
        let first = inner.open - inner.closed.len() as u64;
        let closed = (first..).zip(&inner.closed).filter(|(number, _)| *number >= from);
        let mut pieces: Vec<(u64, Piece)> = closed
            .map(|(number, times)| {
                let live = inner.parts.values().flat_map(|part| part.series(inner.now()));
                let all = live.map(|(series, _)| series).chain(inner.past.values().map(|series| &**series));
                let series = all
                    .filter_map(|series| Some((series.labels.clone(), series.block(number)?.clone())))
                    .collect();
                (number, Piece { times: times.clone(), series })
            })
            .collect();
        if !inner.times.is_empty() {
            let live = inner.parts.values().flat_map(|part| part.series(inner.now()));
            let series = live.map(|(series, head)| (series.labels.clone(), head().into()));
            let series = series.filter(|(_, bytes): &(Labels, Arc<[u8]>)| !bytes.is_empty()).collect();
            pieces.push((inner.open, Piece { times: inner.times.as_slice().into(), series }));
        }
        pieces
    }
}

impl Inner {
    pub(super) fn closed_moments(&self) -> usize {
        self.closed.iter().map(|times| times.len()).sum()
    }

    /// The series with these labels, with its past if it has one.
    pub(super) fn take_past(&mut self, labels: Labels) -> Box<Series> {
        match self.past.remove(&labels) {
            Some(series) => {
                self.bytes -= overhead(&series);
                series
            }
            None => Series::new(labels),
        }
    }

    pub(super) fn forget_past(&mut self, oldest: u64, freed: &mut usize) {
        self.past.retain(|_, series| {
            *freed += series.forget(oldest);
            if !series.is_there() {
                *freed += overhead(series);
            }
            series.is_there()
        });
    }

    fn restore(&mut self, piece: Piece, follows: i64) {
        let Some(last) = piece.last() else { return };
        let number = self.open;
        let mut times = piece.times.to_vec();
        if follows - last > GAP_MS {
            // A moment at which nothing had a value: all that was there has ended.
            times.push(last + END_MS);
        }
        self.bytes += times.len() * size_of::<i64>();
        self.closed.push_back(times.into());
        self.open += 1;
        for (labels, bytes) in piece.series {
            let labels =
                Labels::new(labels.iter().map(|(name, value)| (self.text(name), self.text(value))).collect());
            if !self.past.contains_key(&labels) {
                if self.past.len() >= MOST_SERIES {
                    continue;
                }
                let series = Series::new(labels.clone());
                self.bytes += overhead(&series);
                self.past.insert(labels.clone(), series);
            }
            if let Some(series) = self.past.get_mut(&labels) {
                self.bytes += series.keep(number, bytes);
            }
        }
    }
}

fn overhead(series: &Series) -> usize {
    size_of::<(Labels, Box<Series>)>() + size_of::<Series>() + series.labels.size()
}
