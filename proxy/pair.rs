//! A request and its copy: what the primary and the version on trial made of the
//! same question. Counted when both have answered, else not at all, so what fails
//! either way counts for both.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::alarm::Alarm;
use crate::flights::Toss;
use crate::outcome::Verdict;
use crate::reading::Way;

pub struct Pair {
    toss: Rc<Toss>,
    worker: usize,
    alarm: Arc<Alarm>,
    /// The one that has ended first.
    first: Cell<Option<End>>,
}

/// How one of the two has ended.
#[derive(Clone, Copy)]
struct End {
    version: usize,
    verdict: Verdict,
    age_us: u64,
}

impl Pair {
    pub fn new(toss: Rc<Toss>, worker: usize, alarm: Arc<Alarm>) -> Rc<Pair> {
        Rc::new(Pair { toss, worker, alarm, first: Cell::new(None) })
    }

    /// Once for each of the two.
    pub fn end(&self, version: usize, verdict: Verdict, age_us: u64) {
        let end = End { version, verdict, age_us };
        let Some(first) = self.first.replace(Some(end)) else { return };
        if first.verdict == Verdict::Uncounted || verdict == Verdict::Uncounted {
            return;
        }
        for end in [first, end] {
            self.count(end);
        }
        // Only what the canary alone has failed is news.
        if first.verdict != verdict {
            self.alarm.ring();
        }
    }

    fn count(&self, End { version, verdict, age_us }: End) {
        let arm = self.toss.generation.arm(self.worker, version, Way::Copied);
        arm.dispatched.add(1);
        if self.toss.cell.is_slow(age_us) {
            arm.slow.add(1);
        }
        if verdict == Verdict::Success {
            arm.ok.add(1);
            arm.latency.record(age_us);
        } else {
            arm.failed.add(1);
        }
    }
}
