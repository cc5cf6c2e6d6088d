//! What was told, for those who listen now and those who come back.
//!
//! The newest facts are kept in a ring of bounded size. A listener that falls
//! behind by more than the channel holds is cut off; telling never waits.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use crate::clock::Moment;
use crate::rollout::{Event, EventKind};

/// Facts kept for those who come back.
const KEPT: usize = 1024;
/// Facts a listener may be behind before it is cut off.
const BEHIND: usize = 256;

/// An event with its place in the stream.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Told {
    /// Grows by one; higher after a restart than before it.
    pub id: u64,
    #[serde(flatten)]
    pub event: Event,
    /// From the start of the evaluation until the weights that this event speaks
    /// of were in force on every worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_force_us: Option<u64>,
}

/// A kind as JSON writes it.
pub fn word(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Queued => "queued",
        EventKind::Started => "started",
        EventKind::Step => "step",
        EventKind::Paused => "paused",
        EventKind::Resumed => "resumed",
        EventKind::Waiting => "waiting",
        EventKind::Suspended => "suspended",
        EventKind::Probed => "probed",
        EventKind::Held => "held",
        EventKind::Halted => "halted",
        EventKind::Released => "released",
        EventKind::Proved => "proved",
        EventKind::Inconclusive => "inconclusive",
        EventKind::Differs => "differs",
        EventKind::Promoted => "promoted",
        EventKind::Baked => "baked",
        EventKind::HandedOver => "handed_over",
        EventKind::Returning => "returning",
        EventKind::TurnedBack => "turned_back",
        EventKind::Retired => "retired",
        EventKind::Superseded => "superseded",
        EventKind::RolledBack => "rolled_back",
        EventKind::Aborted => "aborted",
        EventKind::Refused => "refused",
    }
}

/// Which of what was told is wanted; what is not said is no condition.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    pub rollout: Option<String>,
    pub kind: Option<EventKind>,
    /// Told at this moment or later.
    pub since: Option<Moment>,
    pub limit: Option<usize>,
}

impl Filter {
    pub fn fits(&self, told: &Told) -> bool {
        let event = &told.event;
        self.rollout.as_ref().is_none_or(|rollout| *rollout == event.rollout)
            && self.kind.is_none_or(|kind| kind == event.kind)
            && self.since.is_none_or(|since| event.at >= since)
    }
}

pub struct Events {
    ring: VecDeque<Arc<Told>>,
    next: u64,
    listeners: broadcast::Sender<Arc<Told>>,
}

/// What a listener missed, then what comes.
pub struct Subscription {
    pub missed: VecDeque<Arc<Told>>,
    pub coming: broadcast::Receiver<Arc<Told>>,
}

impl Events {
    pub fn new(now: Moment) -> Events {
        Events { ring: VecDeque::with_capacity(KEPT), next: now.0, listeners: broadcast::Sender::new(BEHIND) }
    }

    pub fn tell(&mut self, event: Event, in_force_us: Option<u64>) {
        if self.ring.len() == KEPT {
            self.ring.pop_front();
        }
        let told = Arc::new(Told { id: self.next, event, in_force_us });
        self.next += 1;
        self.ring.push_back(Arc::clone(&told));
        // An error only says that nobody listens.
        let _ = self.listeners.send(told);
    }

    /// What fits, as far as it is kept, oldest first; of more than wanted the newest.
    pub fn list(&self, filter: &Filter) -> Vec<Arc<Told>> {
        let mut found: Vec<_> = self.ring.iter().filter(|told| filter.fits(told)).cloned().collect();
        let most = filter.limit.unwrap_or(KEPT);
        found.drain(..found.len().saturating_sub(most));
        found
    }

    /// Everything after `last`, as far as it is kept; without it only what comes.
    pub fn subscribe(&self, last: Option<u64>) -> Subscription {
        let missed = match last {
            Some(last) => self.ring.iter().filter(|told| told.id > last).cloned().collect(),
            None => VecDeque::new(),
        };
        Subscription { missed, coming: self.listeners.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: usize) -> Event {
        Event {
            at: Moment(1),
            rollout: "web".into(),
            kind: EventKind::Step,
            text: text.to_string(),
            canary_parts: 0,
        }
    }

    #[test]
    fn one_who_comes_back_gets_what_was_missed_and_no_more() {
        let mut events = Events::new(Moment(100));
        for i in 0..5 {
            events.tell(event(i), None);
        }
        let ids = |last| events.subscribe(last).missed.iter().map(|told| told.id).collect::<Vec<_>>();
        assert_eq!(ids(Some(102)), [103, 104]);
        assert!(ids(None).is_empty());
        assert_eq!(ids(Some(0)).len(), 5);
    }

    #[test]
    fn a_list_holds_what_fits_and_of_more_the_newest() {
        let mut events = Events::new(Moment(0));
        for i in 0..6 {
            let rollout = if i % 2 == 0 { "web" } else { "shop" };
            events.tell(Event { at: Moment(i), rollout: rollout.into(), ..event(0) }, None);
        }
        let ats =
            |filter: Filter| events.list(&filter).iter().map(|told| told.event.at.0).collect::<Vec<_>>();
        let web = || Filter { rollout: Some("web".into()), ..Filter::default() };
        assert_eq!(ats(Filter::default()).len(), 6);
        assert_eq!(ats(web()), [0, 2, 4]);
        assert_eq!(ats(Filter { since: Some(Moment(2)), ..web() }), [2, 4]);
        assert_eq!(ats(Filter { limit: Some(1), ..web() }), [4]);
        assert!(ats(Filter { kind: Some(EventKind::Baked), ..web() }).is_empty());
    }

    #[test]
    fn memory_is_bounded_and_one_who_falls_behind_is_cut_off() {
        let mut events = Events::new(Moment(0));
        let mut slow = events.subscribe(None);
        for i in 0..3 * KEPT {
            events.tell(event(i), None);
        }
        assert_eq!(events.ring.len(), KEPT);
        assert!(matches!(slow.coming.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    }
}
