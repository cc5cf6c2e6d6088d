//! The way back: once the canary is good for good, its version is brought to the
//! primary's servers, and traffic returns to them in portions. That is a rollout
//! in itself: the servers that have just got the version are judged against those
//! that have it already, and at the first doubt all traffic stays with these.

use super::EventKind;
use super::Flow;
use super::Rollout;
use super::event::Event;
use super::phase::Place;
use crate::clock::Moment;
use crate::judge::Cause;
use crate::judge::Judge;
use crate::judge::Verdict;
use serin_proxy::weights::WHOLE;
use serin_proxy::weights::percent;

impl Rollout {
    /// It waits for the primary's servers to have the new version, and nothing is
    /// known against their having it.
    pub fn awaits_primary(&self) -> bool {
        self.state.place == Place::Handover && !self.state.turned_back
    }

    pub(super) fn hand_over(&mut self, now: Moment, events: &mut Vec<Event>) {
        self.arrive(Place::Handover, Flow::ALL, now);
        self.state.judge = None;
        self.state.verdict = Verdict::Continue;
        self.tell(now, EventKind::HandedOver, self.awaited(), events);
    }

    /// What has to be done before traffic goes back.
    pub(super) fn awaited(&self) -> String {
        let primary = &self.spec.primary;
        let before =
            if self.state.turned_back { format!("{}; ", self.state.last_words) } else { String::new() };
        format!("{before}the canary has all traffic; bring its version to {primary}, then promote")
    }

    /// The primary has the new version.
    pub(super) fn begin_return(&mut self, now: Moment, events: &mut Vec<Event>) {
        let planned = self.spec.way_back.map_or_else(Default::default, |way_back| {
            way_back.every * WHOLE.div_ceil(way_back.by.max(1)) + way_back.every
        });
        let known = self.state.successor.clone().unwrap_or_default();
        self.state.judge = Some(Judge::new(&self.spec.analysis, planned, &known, now));
        self.state.terms = self.spec.analysis.clone();
        self.return_more(now, events);
    }

    pub(super) fn portion_is_over(&self) -> bool {
        self.time_is_over() && self.missing() == 0 && !self.is_troubled()
    }

    /// The next portion; after the last one it is over.
    pub(super) fn return_more(&mut self, now: Moment, events: &mut Vec<Event>) {
        if self.state.place == Place::Return && self.state.parts == 0 {
            let text = format!("{} has the new version and all traffic", self.spec.primary);
            self.state.old_kept = false;
            self.end(Place::Succeeded, Flow::NONE, now, text.clone());
            return self.tell(now, EventKind::Baked, text, events);
        }
        let by = self.spec.way_back.map_or(WHOLE, |way_back| way_back.by);
        let parts = self.state.parts.saturating_sub(by);
        self.arrive(Place::Return, Flow { parts, ..Flow::NONE }, now);
        self.tell(now, EventKind::Returning, self.returned(), events);
    }

    pub(super) fn returned(&self) -> String {
        let back = percent(WHOLE - self.state.parts);
        format!("{back} % are back at {}, which has the new version", self.spec.primary)
    }

    /// A doubt is enough: nothing is lost by staying where all was well.
    pub(super) fn heed_return(&mut self, now: Moment, events: &mut Vec<Event>) {
        let Some(judge) = self.state.judge.as_mut() else { return };
        self.state.verdict = judge.decide();
        match self.state.verdict {
            Verdict::Rollback | Verdict::Suspend | Verdict::Hold(Cause::Coin) => {
                let known = self.state.successor.as_ref().unwrap_or(&self.state.history);
                let judged = self.state.judge.as_ref().map(|judge| judge.explain(self.state.verdict, known));
                let why =
                    format!("with the new version (here called the canary): {}", judged.unwrap_or_default());
                self.turn_back(now, &why, events);
            }
            Verdict::Hold(Cause::Shared) | Verdict::Continue => {}
        }
    }

    pub(super) fn turn_back(&mut self, now: Moment, why: &str, events: &mut Vec<Event>) {
        self.state.judge = None;
        self.state.verdict = Verdict::Continue;
        self.state.turned_back = true;
        self.end(Place::Handover, Flow::ALL, now, format!("{} {why}", self.spec.primary));
        let text = format!("all traffic to the canary again: {}", self.state.last_words);
        self.tell(now, EventKind::TurnedBack, text, events);
    }
}
