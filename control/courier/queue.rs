//! The letters that wait for one receiver, bounded. News waits in its turn; an
//! error goes before all that is not one, and nothing that waits keeps it out.
//!
//! Where a receiver holds a state (an open incident) its letters about one thing
//! never change places: what an error goes past is dropped, for it is history.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::Letter;
use crate::outside::alert::Severity;

/// Letters that may wait for one receiver.
pub const WAITING: usize = 256;

#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

#[derive(Default)]
struct Waiting {
    letters: VecDeque<Letter>,
    is_closed: bool,
}

/// A letter that waits no more, and why.
pub enum Gone {
    /// There is no room, and it matters least.
    Crowded(Letter),
    /// A later one says how things are.
    Superseded(Letter),
}

impl Queue {
    /// Never waits. Answers with those that have to go for it, itself perhaps.
    pub fn put(&self, letter: Letter) -> Vec<Gone> {
        let gone = insert(&mut self.waiting().letters, letter, WAITING);
        self.bell.notify_one();
        gone
    }

    /// Nothing where it is closed and empty.
    pub async fn next(&self) -> Option<Letter> {
        loop {
            {
                let mut waiting = self.waiting();
                if let Some(letter) = waiting.letters.pop_front() {
                    return Some(letter);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            self.bell.notified().await;
        }
    }

    /// Nothing comes any more.
    pub fn close(&self) {
        self.waiting().is_closed = true;
        self.bell.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("no holder panics")
    }
}

fn insert(letters: &mut VecDeque<Letter>, letter: Letter, most: usize) -> Vec<Gone> {
    let mut gone = Vec::new();
    let is_of_same = |other: &Letter| other.state_of.is_some() && other.state_of == letter.state_of;
    if letter.is_repeated && letters.iter().any(is_of_same) {
        return vec![Gone::Superseded(letter)];
    }
    let is_urgent = letter.severity == Severity::Error;
    if is_urgent {
        let all = std::mem::take(letters);
        let (past, rest) = all.into_iter().partition(|other| is_of_same(other) && !is_error(other));
        *letters = rest;
        gone.extend(VecDeque::into_iter(past).map(Gone::Superseded));
    }
    if letters.len() >= most {
        let Some(victim) = victim(letters, &letter) else {
            gone.push(Gone::Crowded(letter));
            return gone;
        };
        gone.extend(letters.remove(victim).map(Gone::Crowded));
    }
    let place =
        if is_urgent { letters.iter().take_while(|other| is_error(other)).count() } else { letters.len() };
    letters.insert(place, letter);
    gone
}

fn is_error(letter: &Letter) -> bool {
    letter.severity == Severity::Error
}

/// The oldest that a later one has made history, or else of those that matter
/// least. Nothing where that is the new one.
fn victim(letters: &VecDeque<Letter>, new: &Letter) -> Option<usize> {
    let is_history = |(at, letter): (usize, &Letter)| {
        let mut later = letters.iter().skip(at + 1).chain([new]);
        letter.state_of.is_some() && !is_error(letter) && later.any(|later| later.state_of == letter.state_of)
    };
    if let Some(history) = letters.iter().enumerate().position(is_history) {
        return Some(history);
    }
    let rank = |letter: &Letter| (!letter.is_repeated, letter.severity);
    let least = letters.iter().chain([new]).map(rank).min()?;
    letters.iter().position(|letter| rank(letter) == least)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    fn letter(about: &str, severity: Severity, state_of: Option<&str>) -> Letter {
        Letter {
            lane: "receiver team".to_owned(),
            about: Value::from(about),
            write: Arc::new(|| Err("nobody asks".to_owned())),
            retries: 0,
            taken: |_| true,
            severity,
            state_of: state_of.map(str::to_owned),
            is_repeated: false,
        }
    }

    fn abouts<'l>(letters: impl IntoIterator<Item = &'l Letter>) -> Vec<String> {
        letters.into_iter().map(|letter| letter.about.as_str().unwrap().to_owned()).collect()
    }

    fn gone(gone: &[Gone]) -> Vec<String> {
        abouts(gone.iter().map(|gone| match gone {
            Gone::Crowded(letter) | Gone::Superseded(letter) => letter,
        }))
    }

    #[test]
    fn an_error_goes_first_and_where_there_is_no_room_the_oldest_news_goes() {
        let mut letters = VecDeque::new();
        let mut put = |about: &str, severity| gone(&insert(&mut letters, letter(about, severity, None), 4));
        for about in ["a", "b"] {
            assert!(put(about, Severity::Info).is_empty());
        }
        assert!(put("warning", Severity::Warn).is_empty());
        assert!(put("error", Severity::Error).is_empty());
        assert_eq!(put("second error", Severity::Error), ["a"]);
        assert_eq!(put("c", Severity::Info), ["b"]);
        assert_eq!(put("third error", Severity::Error), ["c"]);
        assert_eq!(put("fourth error", Severity::Error), ["warning"]);
        assert_eq!(put("d", Severity::Info), ["d"], "it matters least");
        assert_eq!(put("fifth error", Severity::Error), ["error"]);
        assert_eq!(abouts(&letters), ["second error", "third error", "fourth error", "fifth error"]);
    }

    #[test]
    fn of_a_state_the_latest_word_is_the_last() {
        let mut letters = VecDeque::new();
        let mut put =
            |about: &str, severity, of| gone(&insert(&mut letters, letter(about, severity, Some(of)), 4));
        put("web is held", Severity::Warn, "web");
        put("api is held", Severity::Warn, "api");
        put("web goes on", Severity::Info, "web");
        assert_eq!(put("web is rolled back", Severity::Error, "web"), ["web is held", "web goes on"]);
        assert!(put("web starts", Severity::Info, "web").is_empty());
        assert!(put("api goes on", Severity::Info, "api").is_empty());
        assert_eq!(put("cart is held", Severity::Warn, "cart"), ["api is held"], "it is history");
        assert_eq!(abouts(&letters), ["web is rolled back", "web starts", "api goes on", "cart is held"]);
    }

    #[test]
    fn what_is_said_again_anyway_waits_once_and_goes_first() {
        let mut letters = VecDeque::new();
        let again = |of: &str| Letter { is_repeated: true, ..letter("again", Severity::Error, Some(of)) };
        let again = |of: &str| Letter { severity: Severity::Info, ..again(of) };
        assert!(insert(&mut letters, again("web"), 2).is_empty());
        assert_eq!(insert(&mut letters, again("web"), 2).len(), 1);
        insert(&mut letters, letter("a", Severity::Info, None), 2);
        assert_eq!(gone(&insert(&mut letters, letter("b", Severity::Info, None), 2)), ["again"]);
        assert_eq!(abouts(&letters), ["a", "b"]);
    }
}
