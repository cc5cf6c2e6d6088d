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
pub mod mask;
mod queue;
mod tls;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use call::{Answer, Call, Fault};
pub use dead::Dead;

use crate::clock::{Clock, Moment};
use crate::outside::alert::Severity;
use crate::secret::Secret;
use dead::{Burial, DeadLetters};
use ledger::Ledger;
use queue::{Gone, Queue, WAITING};

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
    pub write: Write,
    /// Attempts after the first.
    pub retries: u32,
    pub taken: Taken,
    /// An error goes before the rest; where there is no room, what matters least
    /// gives way.
    pub severity: Severity,
    /// Of what the receiver holds a state, which its letters change in their order.
    pub state_of: Option<String>,
    /// It will be said again in any case, so one that is not delivered is not kept.
    pub is_repeated: bool,
}

pub type Write = Arc<dyn Fn() -> Result<Call, String> + Send + Sync>;
/// Whether an answer means that a letter has arrived.
pub type Taken = fn(&Answer) -> bool;

type Scribe = Box<dyn Fn(&Dead) -> Option<Letter> + Send + Sync>;

/// Cheap to clone.
#[derive(Clone)]
pub struct Courier {
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Handle,
    clock: Clock,
    lanes: Mutex<BTreeMap<String, Arc<Queue>>>,
    /// Held while their file is written, so never taken by a task.
    dead: Mutex<DeadLetters>,
    /// Those that are to become dead letters, at most as many as are kept.
    burials: Mutex<VecDeque<Burial>>,
    /// How many they were when last looked at.
    kept: AtomicU64,
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
    /// Given up, and still kept.
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
            burials: Mutex::default(),
            kept: AtomicU64::new(0),
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
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.ledger.waits(&letter.lane);
        for gone in self.put(letter) {
            match gone {
                Gone::Crowded(letter) => {
                    let cause = format!("more than {WAITING} letters wait for this receiver already");
                    self.given_up(letter, 0, cause, Duration::ZERO);
                }
                Gone::Superseded(letter) => {
                    let (receiver, about) = (&letter.lane, &letter.about);
                    if !letter.is_repeated {
                        tracing::info!(receiver, %about, "a letter is not sent, for a later one says more");
                    }
                    self.shared.ledger.taken(&letter.lane);
                    self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Those that could not be delivered, oldest first. May wait for their file.
    pub fn dead(&self) -> Vec<Dead> {
        self.with_dead(DeadLetters::list)
    }

    /// Who can write a letter anew of which only is known what it is about.
    pub fn instruct(&self, scribe: impl Fn(&Dead) -> Option<Letter> + Send + Sync + 'static) {
        // Of two the first stays.
        let _ = self.shared.scribe.set(Box::new(scribe));
    }

    /// Tries again, or says why not. May wait for their file.
    pub fn resend(&self, id: u64) -> Result<(), String> {
        let write_anew = |dead: &Dead| self.shared.scribe.get().and_then(|scribe| scribe(dead));
        let found = self.with_dead(|dead| dead.take(id, write_anew));
        let letter = found.ok_or_else(|| format!("there is no dead letter {id}"))??;
        self.send(letter);
        Ok(())
    }

    /// Nothing is tried any more: what waits becomes a dead letter.
    pub fn end(&self) {
        self.shared.ends.send_replace(true);
    }

    /// Waits for nobody: while the dead letters are being written they are told as
    /// they were.
    pub fn load(&self) -> Load {
        if let Ok(mut dead) = self.shared.dead.try_lock() {
            self.shared.kept.store(dead.kept(), Ordering::Relaxed);
        }
        Load {
            delivered: self.shared.delivered.load(Ordering::Relaxed),
            waiting: self.waiting(),
            kept: self.shared.kept.load(Ordering::Relaxed),
        }
    }

    pub fn waiting(&self) -> u64 {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// What came of it all, and of what others ask by themselves.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    fn put(&self, letter: Letter) -> Vec<Gone> {
        let mut lanes = self.shared.lanes.lock().expect("no holder panics");
        if let Some(queue) = lanes.get(&letter.lane) {
            return queue.put(letter);
        }
        if lanes.len() >= LANES {
            std::mem::take(&mut *lanes).values().for_each(|queue| queue.close());
        }
        let queue = Arc::<Queue>::default();
        lanes.insert(letter.lane.clone(), queue.clone());
        let gone = queue.put(letter);
        self.shared.runtime.spawn(lane::run(self.clone(), queue, self.shared.ends.subscribe()));
        gone
    }

    fn delivered(&self, lane: &str, attempts: u32, took: Duration) {
        self.shared.ledger.taken(lane);
        self.shared.ledger.ended(lane, true, attempts, took);
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        self.shared.delivered.fetch_add(1, Ordering::Relaxed);
    }

    /// It is put away on a thread that may wait for a disk, and waits until then.
    fn given_up(&self, letter: Letter, attempts: u32, cause: String, took: Duration) {
        self.shared.ledger.taken(&letter.lane);
        self.shared.ledger.ended(&letter.lane, false, attempts, took);
        match letter.is_repeated {
            true => {
                tracing::warn!(receiver = letter.lane, cause, "what is so is not said again");
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                return;
            }
            false => tracing::error!(receiver = letter.lane, attempts, cause, "a letter is not delivered"),
        }
        let at = self.shared.clock.now();
        let mut burials = self.burials();
        if burials.len() == dead::KEPT {
            burials.pop_front();
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        burials.push_back(Burial { at, letter, attempts, cause });
        if burials.len() == 1 {
            let courier = self.clone();
            self.shared.runtime.spawn_blocking(move || courier.bury());
        }
    }

    /// All that are given up by now; while a disk hangs they become more.
    fn bury(&self) {
        let buried = self.with_dead(|dead| {
            let burials = std::mem::take(&mut *self.burials());
            let count = burials.len() as u64;
            dead.bury(burials);
            count
        });
        self.shared.waiting.fetch_sub(buried, Ordering::Relaxed);
    }

    fn burials(&self) -> MutexGuard<'_, VecDeque<Burial>> {
        self.shared.burials.lock().expect("no holder panics")
    }

    fn with_dead<T>(&self, act: impl FnOnce(&mut DeadLetters) -> T) -> T {
        let mut dead = self.shared.dead.lock().expect("no holder panics");
        let done = act(&mut dead);
        self.shared.kept.store(dead.kept(), Ordering::Relaxed);
        done
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn letter(to: std::net::SocketAddr, name: String, severity: Severity) -> Letter {
        let url = format!("http://{to}/{name}");
        Letter {
            lane: "receiver team".to_owned(),
            about: Value::from(name),
            write: Arc::new(move || Ok(Call::get(url.as_str().into(), Duration::from_secs(5)))),
            retries: 0,
            taken: |_| true,
            severity,
            state_of: None,
            is_repeated: false,
        }
    }

    #[tokio::test]
    async fn a_rollback_is_told_before_all_the_news_that_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let courier = Courier::new(Handle::current(), None);
        for nth in 0..WAITING + 10 {
            courier.send(letter(address, format!("news {nth}"), Severity::Info));
        }
        courier.send(letter(address, "rollback".to_owned(), Severity::Error));
        let mut told = Vec::new();
        while told.len() < WAITING {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            let path = String::from_utf8_lossy(&head[..read]).split(' ').nth(1).unwrap().to_owned();
            told.push(path.replace("%20", " "));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
        assert_eq!((told[0].as_str(), told[1].as_str()), ("/rollback", "/news 11"));
        while courier.waiting() > 0 {
            tokio::task::yield_now().await;
        }
        let dead: Vec<_> = courier.dead().into_iter().map(|dead| dead.about).collect();
        assert_eq!(dead, (0..=10).map(|nth| Value::from(format!("news {nth}"))).collect::<Vec<_>>());
        assert_eq!(courier.load(), Load { delivered: WAITING as u64, waiting: 0, kept: 11 });
    }

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
