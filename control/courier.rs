//! What is sent to others: one call, a call with retries, and queues of what only
//! has to arrive some time.
//!
//! Whoever waits for an answer calls; whatever is told goes by the [`Courier`],
//! who takes it at once, forgets nothing in silence and keeps what cannot be
//! delivered for who looks. It must not know what its letters say. All of it runs
//! beside the tick, never in it.

pub mod call;
pub mod dead;
pub mod ledger;
pub mod lane;
mod tls;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

pub use call::{Answer, Call, Fault};
pub use dead::Dead;

use crate::clock::{Clock, Moment};
use crate::secret::Secret;
use dead::DeadLetters;
use ledger::Ledger;

/// Letters that may wait for one receiver; what is more goes to the dead ones.
const WAITING: usize = 256;
/// Receivers that have had a letter; those of a configuration are far fewer.
const LANES: usize = 4_096;

/// Something to be told, with the way to write it when its turn comes: only then
/// are secrets fetched, and the configuration of that moment is used.
#[derive(Clone)]
pub struct Letter {
    /// Letters of one lane go one after the other.
    pub lane: String,
    /// What it is about, for people. Holds no secret.
    pub about: Value,
    pub write: Arc<dyn Fn() -> Result<Call, String> + Send + Sync>,
    /// Attempts after the first.
    pub retries: u32,
    pub taken: fn(u16) -> bool,
}

type Scribe = Box<dyn Fn(&Dead) -> Option<Letter> + Send + Sync>;

/// Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Handle,
    clock: Clock,
    lanes: Mutex<BTreeMap<String, mpsc::Sender<Letter>>>,
    dead: Mutex<DeadLetters>,
    /// Writes letters of a process before us anew.
    scribe: OnceLock<Scribe>,
    delivered: AtomicU64,
    waiting: AtomicU64,
    ledger: Ledger,
    ends: watch::Sender<bool>,
}

/// How much there was and is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub delivered: u64,
    pub waiting: u64,
    /// Given up, ever; and of those that are still kept.
    pub dead: u64,
    pub kept: u64,
}

impl Courier {
    /// Its lanes are tasks of this runtime. What it cannot deliver is kept in this
    /// folder, if anywhere.
    pub fn new(runtime: Handle, state: Option<&Path>) -> Courier {
        let shared = Shared {
            runtime,
            clock: Clock::start(Moment::default()),
            lanes: Mutex::default(),
            dead: Mutex::new(DeadLetters::read(state)),
            scribe: OnceLock::new(),
            delivered: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            ledger: Ledger::default(),
            ends: watch::Sender::new(false),
        };
        Courier { shared: Arc::new(shared) }
    }

    /// Never waits.
    pub fn send(&self, letter: Letter) {
        let queue = self.queue(&letter.lane);
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.ledger.waits(&letter.lane);
        if let Err(refused) = queue.try_send(letter) {
            let letter = match refused {
                mpsc::error::TrySendError::Full(letter) | mpsc::error::TrySendError::Closed(letter) => letter,
            };
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            self.shared.ledger.taken(&letter.lane);
            self.shared.ledger.ended(&letter.lane, false, 0, Duration::ZERO);
            self.bury(letter, 0, format!("more than {WAITING} letters wait for this receiver already"));
        }
    }

    /// Those that could not be delivered, oldest first.
    pub fn dead(&self) -> Vec<Dead> {
        self.dead_letters().list()
    }

    /// Who can write a letter anew of which only is known what it is about.
    pub fn instruct(&self, scribe: impl Fn(&Dead) -> Option<Letter> + Send + Sync + 'static) {
        // Of two the first stays.
        let _ = self.shared.scribe.set(Box::new(scribe));
    }

    /// Tries again, or says why not.
    pub fn resend(&self, id: u64) -> Result<(), String> {
        let write_anew = |dead: &Dead| self.shared.scribe.get().and_then(|scribe| scribe(dead));
        let found = self.dead_letters().take(id, write_anew);
        let letter = found.ok_or_else(|| format!("there is no dead letter {id}"))??;
        self.send(letter);
        Ok(())
    }

    /// Nothing is tried any more: what waits becomes a dead letter.
    pub fn end(&self) {
        self.shared.ends.send_replace(true);
    }

    pub fn load(&self) -> Load {
        let mut dead = self.dead_letters();
        Load {
            delivered: self.shared.delivered.load(Ordering::Relaxed),
            waiting: self.shared.waiting.load(Ordering::Relaxed),
            dead: dead.ever(),
            kept: dead.kept(),
        }
    }

    /// What came of it all, and of what others ask by themselves.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    fn queue(&self, name: &str) -> mpsc::Sender<Letter> {
        let mut lanes = self.shared.lanes.lock().expect("no holder panics");
        if let Some(queue) = lanes.get(name) {
            return queue.clone();
        }
        if lanes.len() >= LANES {
            lanes.clear();
        }
        let (queue, letters) = mpsc::channel(WAITING);
        self.shared.runtime.spawn(lane::run(self.clone(), letters, self.shared.ends.subscribe()));
        lanes.insert(name.to_owned(), queue.clone());
        queue
    }

    fn delivered(&self, lane: &str, attempts: u32, took: Duration) {
        self.shared.ledger.taken(lane);
        self.shared.ledger.ended(lane, true, attempts, took);
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        self.shared.delivered.fetch_add(1, Ordering::Relaxed);
    }

    fn given_up(&self, letter: Letter, attempts: u32, cause: String, took: Duration) {
        self.shared.ledger.taken(&letter.lane);
        self.shared.ledger.ended(&letter.lane, false, attempts, took);
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        self.bury(letter, attempts, cause);
    }

    fn bury(&self, letter: Letter, attempts: u32, cause: String) {
        tracing::error!(receiver = letter.lane, attempts, cause, "a letter is not delivered");
        let at = self.shared.clock.now();
        self.dead_letters().bury(at, letter, attempts, cause);
    }

    fn dead_letters(&self) -> std::sync::MutexGuard<'_, DeadLetters> {
        self.shared.dead.lock().expect("no holder panics")
    }
}

/// `sha256=` and the HMAC of the body in hexadecimal, as GitHub signs its own.
pub fn signature(key: &Secret, body: &[u8]) -> Result<String, String> {
    let key = key.fetch().map_err(|missing| missing.to_string())?;
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, body);
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256={hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_signed_as_github_does() {
        // The example of GitHub's page on validating deliveries.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "It's a Secret to Everybody").unwrap();
        let signed = signature(&Secret::File(path), b"Hello, World!").unwrap();
        assert_eq!(signed, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    }
}
