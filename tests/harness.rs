//! The world around the binary under test: the program itself, servers behind
//! it, clients before it, and a few words to wait and to skip with.
//!
//! It knows serin only from outside: its configuration, its command line and
//! what it says on sockets. Nothing here links to the code under test.

pub mod alertmanager;
pub mod app;
pub mod certs;
pub mod chat;
pub mod client;
pub mod dns;
pub mod envoy;
pub mod flow;
pub mod frames;
pub mod front;
pub mod graphite;
pub mod h2;
pub mod influx;
pub mod load;
pub mod metrics;
pub mod nginx;
pub mod origin;
pub mod program;
pub mod prometheus;
pub mod raw;
pub mod recorder;
pub mod scene;
pub mod script;
pub mod thanos;
pub mod ways;
pub mod refuser;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use app::App;
pub use client::{Ask, Conn};
pub use load::Load;
pub use origin::{Answer, Origin};

/// Long enough for a loaded machine; a healthy run never comes near it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The path of an outside program, or a line that says what is skipped. Where
/// `CI` is set nothing may be skipped.
pub fn require(program: &str) -> Option<PathBuf> {
    require_at(program, &[])
}

/// As `require`, looking first into these folders of the repository.
pub fn require_at(program: &str, folders: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    let ours = folders.iter().map(|folder| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(folder));
    let found = ours
        .chain(std::env::split_paths(&path))
        .chain(sbin)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    if found.is_none() {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// Tells that something is not tested here, and why.
pub fn skip(reason: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false");
    assert!(!ci, "{reason}, and under CI nothing is skipped");
    // Written past the test runner's capture, so that it is seen in a green run too.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

/// Asks until the answer is yes; panics with `what` when patience ends.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    eventually_some(what, || check().then_some(()));
}

/// Asks until there is an answer.
pub fn eventually_some<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Asks until the same number was given for `calm`; answers with it.
pub fn settled(calm: Duration, mut number: impl FnMut() -> u64) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let (mut last, mut since) = (number(), Instant::now());
    while since.elapsed() < calm {
        assert!(Instant::now() < deadline, "the number still moves: {last}");
        std::thread::sleep(Duration::from_millis(10));
        let now = number();
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    last
}

/// Whether `count` out of `of` is what a coin of probability `p` gives, within
/// `sigmas` standard deviations (plus one, for the smallest expectations).
pub fn plausible(count: u64, of: u64, p: f64, sigmas: f64) -> bool {
    let expected = of as f64 * p;
    let deviation = (of as f64 * p * (1.0 - p)).sqrt();
    (count as f64 - expected).abs() <= sigmas * deviation + 1.0
}

/// A small generator of our own, so that a printed seed replays a test.
pub struct Seeded(pub u64);

impl Seeded {
    /// Uniform in 0..bound.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// True so many times in a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, among: &[T]) -> T {
        among[self.below(among.len())]
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn plausible_tells_a_fair_coin_from_a_loaded_one() {
    assert!(plausible(5_050, 10_000, 0.5, 5.0));
    assert!(!plausible(5_300, 10_000, 0.5, 5.0));
    assert!(plausible(0, 10, 0.0, 5.0));
}
