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
    /// Grows with time, over a restart, too.
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

/// From where on a listener wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Now,
    /// All that this process has told.
    Start,
    /// What came after this, as far as it is kept.
    After(u64),
}

pub struct Events {
    ring: VecDeque<Arc<Told>>,
    next: u64,
    /// The first that this process has told, or will tell.
    start: u64,
    listeners: broadcast::Sender<Arc<Told>>,
}

/// What a listener missed, then what comes.
pub struct Subscription {
    pub missed: VecDeque<Arc<Told>>,
    pub coming: broadcast::Receiver<Arc<Told>>,
}

impl Events {
    /// After those of processes before this one.
    pub fn new(now: Moment, past: impl IntoIterator<Item = Event>) -> Events {
        let listeners = broadcast::Sender::new(BEHIND);
        let mut events = Events { ring: VecDeque::with_capacity(KEPT), next: 0, start: 0, listeners };
        past.into_iter().for_each(|event| drop(events.keep(event, None)));
        events.next = events.next.max(now.0);
        events.start = events.next;
        events
    }

    pub fn tell(&mut self, event: Event, in_force_us: Option<u64>) {
        let told = self.keep(event, in_force_us);
        // An error only says that nobody listens.
        let _ = self.listeners.send(told);
    }

    /// Its number follows from its moment, so that the next process finds the same.
    fn keep(&mut self, event: Event, in_force_us: Option<u64>) -> Arc<Told> {
        if self.ring.len() == KEPT {
            self.ring.pop_front();
        }
        let id = self.next.max(event.at.0);
        self.next = id + 1;
        let told = Arc::new(Told { id, event, in_force_us });
        self.ring.push_back(Arc::clone(&told));
        told
    }

    /// What fits, as far as it is kept, oldest first; of more than wanted the newest.
    pub fn list(&self, filter: &Filter) -> Vec<Arc<Told>> {
        let mut found: Vec<_> = self.ring.iter().filter(|told| filter.fits(told)).cloned().collect();
        let most = filter.limit.unwrap_or(KEPT);
        found.drain(..found.len().saturating_sub(most));
        found
    }

    pub fn subscribe(&self, since: Since) -> Subscription {
        let from = match since {
            Since::Now => self.next,
            Since::Start => self.start,
            Since::After(last) => last.saturating_add(1),
        };
        let missed = self.ring.iter().filter(|told| told.id >= from).cloned().collect();
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
        let mut events = Events::new(Moment(100), []);
        for i in 0..5 {
            events.tell(event(i), None);
        }
        let ids = |since| events.subscribe(since).missed.iter().map(|told| told.id).collect::<Vec<_>>();
        assert_eq!(ids(Since::After(102)), [103, 104]);
        assert!(ids(Since::Now).is_empty());
        assert_eq!(ids(Since::After(0)).len(), 5);
    }

    #[test]
    fn what_was_told_before_a_restart_is_there_with_the_same_numbers() {
        let at = |at, text| Event { at: Moment(at), ..event(text) };
        let told = [at(100, 0), at(100, 1), at(100, 2), at(150, 3)];
        let mut before = Events::new(Moment(90), []);
        told.iter().for_each(|event| before.tell(event.clone(), None));
        let mut after = Events::new(Moment(200), told);
        after.tell(at(200, 4), None);
        let all = |events: &Events, since| {
            let missed = events.subscribe(since).missed;
            missed.iter().map(|told| (told.id, told.event.text.clone())).collect::<Vec<_>>()
        };
        let (old, new) = (all(&before, Since::After(0)), all(&after, Since::After(0)));
        assert_eq!(old[..], new[..4]);
        assert_eq!(
            all(&after, Since::After(150)),
            [(200, "4".to_owned())],
            "who comes back hears none twice"
        );
        assert_eq!(all(&after, Since::Start), [(200, "4".to_owned())]);
    }

    #[test]
    fn a_list_holds_what_fits_and_of_more_the_newest() {
        let mut events = Events::new(Moment(0), []);
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
        let mut events = Events::new(Moment(0), []);
        let mut slow = events.subscribe(Since::Now);
        for i in 0..3 * KEPT {
            events.tell(event(i), None);
        }
        assert_eq!(events.ring.len(), KEPT);
        assert!(matches!(slow.coming.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    }
}
