//! How one endpoint fares: what upkeep found out about it, and what workers
//! count of it. Lives as long as its location is listed, through reloads and new
//! answers of DNS.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::outlier;
use super::outlier::Cause;
use super::outlier::Counted;
use super::outlier::Lesson;
use super::outlier::Mark;
use super::outlier::Record;
use super::outlier::Reply;
use super::outlier::Rows;
use super::outlier::Share;
use crate::model::Outlier;
use crate::tally::Count;

/// One bit of an endpoint's condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(u32);

impl Flag {
    /// Its active check fails, or has not passed yet.
    pub const FAILED_CHECK: Flag = Flag(1);
    /// An outlier, for a time.
    pub const EJECTED: Flag = Flag(1 << 1);
    /// Gets nothing new; what it has may end.
    pub const DRAINING: Flag = Flag(1 << 2);
    /// Its first active check has not ended.
    pub const UNCHECKED: Flag = Flag(1 << 3);
    /// It failed its last check by not answering in time.
    pub const SILENT: Flag = Flag(1 << 4);

    /// An endpoint with one of these is not picked, but in a panic.
    pub const KEEPS_OUT: [Flag; 3] = [Flag::FAILED_CHECK, Flag::EJECTED, Flag::DRAINING];

    /// In the words, and the order, that Envoy shows them.
    pub const WORDS: [(Flag, &str); 5] = [
        (Flag::FAILED_CHECK, "failed_active_hc"),
        (Flag::EJECTED, "failed_outlier_check"),
        (Flag::DRAINING, "draining"),
        (Flag::UNCHECKED, "pending_active_hc"),
        (Flag::SILENT, "active_hc_timeout"),
    ];
}

/// Alone on its cache lines: workers write here while others read what stands beside.
#[repr(align(128))]
pub struct Vitals {
    flags: AtomicU32,
    /// When it was first listed, or last came back to health: slow start counts from here.
    fresh_us: AtomicU64,
    tracks: Box<[Track]>,
    rows: RowCells,
    /// Causes that workers have found, by [`Cause::bit`].
    found: AtomicU32,
    resigned: AtomicBool,
    record: Mutex<Record>,
    last_check: Mutex<Option<String>>,
    under_way: AtomicU64,
}

/// What one worker counts. Aligned so that two never write one cache line.
#[derive(Default)]
#[repr(align(128))]
struct Track {
    good: Count,
    bad: Count,
    unreached: Count,
    late: Count,
}

/// Attempts by how they ended, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub good: u64,
    /// Answered with 500 or above.
    pub bad: u64,
    pub unreached: u64,
    pub late: u64,
}

impl Ends {
    pub fn sum(self) -> u64 {
        let Ends { good, bad, unreached, late } = self;
        good + bad + unreached + late
    }
}

/// Failures in a row, shared by all workers: written only by failures, and by
/// the first success after one.
#[derive(Default)]
struct RowCells {
    server_errors: AtomicU32,
    gateway_failures: AtomicU32,
    local_origin: AtomicU32,
}

impl Vitals {
    pub fn new(workers: usize, now_us: u64, unchecked: bool) -> Vitals {
        let flags = if unchecked { Flag::FAILED_CHECK.0 | Flag::UNCHECKED.0 } else { 0 };
        Vitals {
            flags: AtomicU32::new(flags),
            fresh_us: AtomicU64::new(now_us),
            tracks: (0..workers).map(|_| Track::default()).collect(),
            rows: RowCells::default(),
            found: AtomicU32::new(0),
            resigned: AtomicBool::new(false),
            record: Mutex::default(),
            last_check: Mutex::default(),
            under_way: AtomicU64::new(0),
        }
    }

    pub fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & flag.0 != 0
    }

    pub fn is_healthy(&self) -> bool {
        Flag::KEEPS_OUT.iter().all(|flag| !self.has(*flag))
    }

    /// Nothing is known against it, because nothing is known of it.
    pub fn may_be_healthy(&self) -> bool {
        self.has(Flag::UNCHECKED) && !self.has(Flag::EJECTED) && !self.has(Flag::DRAINING)
    }

    pub fn fresh_us(&self) -> u64 {
        self.fresh_us.load(Ordering::Relaxed)
    }

    /// It begins anew: slow start, where asked for, leads it back.
    pub fn freshen(&self, now_us: u64) {
        self.fresh_us.store(now_us, Ordering::Relaxed);
    }

    /// Requests of all workers that it has, where its version chooses by them.
    pub fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    pub fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether that was a change. Only [`super::Hosts::mark`] calls this, for the
    /// pickers must hear of it.
    pub(super) fn mark(&self, flag: Flag, on: bool) -> bool {
        let before = if on {
            self.flags.fetch_or(flag.0, Ordering::AcqRel)
        } else {
            self.flags.fetch_and(!flag.0, Ordering::AcqRel)
        };
        (before & flag.0 != 0) != on
    }

    pub(super) fn count(&self, worker: usize, lesson: Lesson) {
        let track = &self.tracks[worker];
        let count = match lesson {
            Lesson::Answered(500..) => &track.bad,
            Lesson::Answered(_) => &track.good,
            Lesson::Unreached => &track.unreached,
            Lesson::Late => &track.late,
        };
        count.add(1);
    }

    pub fn ends(&self) -> Ends {
        let sum = |of: fn(&Track) -> &Count| self.tracks.iter().map(|track| of(track).get()).sum();
        Ends {
            good: sum(|track| &track.good),
            bad: sum(|track| &track.bad),
            unreached: sum(|track| &track.unreached),
            late: sum(|track| &track.late),
        }
    }

    pub fn has_traffic(&self) -> bool {
        self.ends() != Ends::default()
    }

    /// What success rates are made of.
    pub(super) fn counted(&self, split_local_origin: bool) -> Counted {
        let Ends { good, bad, unreached, late } = self.ends();
        let (answered, all) = (good + bad, good + bad + unreached + late);
        if split_local_origin {
            let local_origin = Share { good: answered, total: all };
            return Counted { requests: Share { good, total: answered }, local_origin };
        }
        Counted { requests: Share { good, total: all }, local_origin: Share::default() }
    }

    /// Whether a row has become full by this; it waits to be taken then.
    pub(super) fn note(&self, outlier: &Outlier, lesson: Lesson) -> bool {
        let mark = outlier::mark(outlier.split_local_origin, lesson);
        let full = self.rows.take(mark).full(outlier, mark);
        let bits = full.into_iter().flatten().fold(0, |bits, cause| bits | cause.bit());
        if bits != 0 {
            self.found.fetch_or(bits, Ordering::AcqRel);
        }
        bits != 0
    }

    pub(super) fn take_found(&self) -> u32 {
        self.found.swap(0, Ordering::AcqRel)
    }

    pub(super) fn clear_row(&self, cause: Cause) {
        let row = match cause {
            Cause::Consecutive5xx => &self.rows.server_errors,
            Cause::ConsecutiveGatewayFailure => &self.rows.gateway_failures,
            Cause::ConsecutiveLocalOriginFailure => &self.rows.local_origin,
            Cause::SuccessRate
            | Cause::SuccessRateLocalOrigin
            | Cause::FailurePercentage
            | Cause::FailurePercentageLocalOrigin => return,
        };
        row.store(0, Ordering::Relaxed);
    }

    pub(super) fn clear_rows(&self) {
        Cause::ALL.into_iter().for_each(|cause| self.clear_row(cause));
    }

    pub(super) fn resign(&self) {
        self.resigned.store(true, Ordering::Release);
    }

    /// Whether it has resigned since last asked.
    pub fn take_resignation(&self) -> bool {
        self.resigned.swap(false, Ordering::AcqRel)
    }

    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("no holder of this lock panics")
    }

    pub(super) fn set_last_check(&self, text: String) {
        *self.last_check.lock().expect("no holder of this lock panics") = Some(text);
    }

    pub fn last_check(&self) -> Option<String> {
        self.last_check.lock().expect("no holder of this lock panics").clone()
    }

    /// Forgets what checks or ejections said that are no longer made.
    pub(super) fn absolve(&self, checks: bool, ejections: bool) {
        if checks {
            for flag in [Flag::FAILED_CHECK, Flag::UNCHECKED, Flag::SILENT] {
                self.mark(flag, false);
            }
            *self.last_check.lock().expect("no holder of this lock panics") = None;
        }
        if ejections {
            self.mark(Flag::EJECTED, false);
            *self.record() = Record::default();
            self.clear_rows();
        }
    }
}

impl RowCells {
    fn take(&self, mark: Mark) -> Rows {
        let longer = |row: &AtomicU32| row.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let broken = |row: &AtomicU32| {
            if row.load(Ordering::Relaxed) != 0 {
                row.store(0, Ordering::Relaxed);
            }
            0
        };
        let (server_errors, gateway_failures) = match mark.reply {
            Some(Reply::Good) => (broken(&self.server_errors), broken(&self.gateway_failures)),
            Some(Reply::ServerError) => (longer(&self.server_errors), broken(&self.gateway_failures)),
            Some(Reply::GatewayFailure) => (longer(&self.server_errors), longer(&self.gateway_failures)),
            None => (0, 0),
        };
        let local_origin = match mark.reached {
            Some(true) => broken(&self.local_origin),
            Some(false) => longer(&self.local_origin),
            None => 0,
        };
        Rows { server_errors, gateway_failures, local_origin }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn causes(vitals: &Vitals) -> Vec<Cause> {
        let found = vitals.take_found();
        Cause::ALL.into_iter().filter(|cause| found & cause.bit() != 0).collect()
    }

    #[test]
    fn five_failures_in_a_row_are_found_and_four_are_not() {
        let (vitals, outlier) = (Vitals::new(2, 1, false), Outlier::default());
        for _ in 0..4 {
            assert!(!vitals.note(&outlier, Lesson::Answered(500)));
        }
        assert!(!vitals.note(&outlier, Lesson::Answered(200)));
        let rings: Vec<bool> = (0..6).map(|_| vitals.note(&outlier, Lesson::Answered(500))).collect();
        assert_eq!(rings, [false, false, false, false, true, false]);
        assert_eq!(causes(&vitals), [Cause::Consecutive5xx]);
        assert_eq!(causes(&vitals), []);
    }

    #[test]
    fn counts_become_shares_by_mode() {
        let vitals = Vitals::new(2, 1, false);
        assert!(!vitals.has_traffic());
        for (worker, lesson) in [
            (0, Lesson::Answered(200)),
            (1, Lesson::Answered(404)),
            (1, Lesson::Answered(500)),
            (0, Lesson::Unreached),
            (1, Lesson::Late),
        ] {
            vitals.count(worker, lesson);
        }
        assert_eq!(vitals.counted(false).requests, Share { good: 2, total: 5 });
        let apart = vitals.counted(true);
        assert_eq!(apart.requests, Share { good: 2, total: 3 });
        assert_eq!(apart.local_origin, Share { good: 3, total: 5 });
        assert!(vitals.has_traffic());
    }

    #[test]
    fn an_unchecked_endpoint_is_not_healthy_but_may_be() {
        let vitals = Vitals::new(1, 1, true);
        assert!(!vitals.is_healthy() && vitals.may_be_healthy());
        vitals.mark(Flag::UNCHECKED, false);
        assert!(!vitals.is_healthy() && !vitals.may_be_healthy());
        vitals.absolve(true, false);
        assert!(vitals.is_healthy());
    }
}
