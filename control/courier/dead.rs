//! Letters that could not be delivered, for who looks and sends them again. Bounded:
//! the oldest go first.
//!
//! They outlive the process, by what they are about and not by what was to be sent:
//! a secret is in no file. Whoever knows the configuration writes them anew.
//!
//! While one process hands over to another both have some to bury. The file is the
//! truth: who changes it has its lock and has read what the other wrote.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Letter;
use crate::clock::Moment;

pub const KEPT: usize = 1_000;
/// What of them outlives the process is not more than this.
const MOST_BYTES: usize = 4 << 20;
const FILE: &str = "dead-letters.json";
const FRESH: &str = "dead-letters.new.json";
const LOCK: &str = "dead-letters.lock";

/// One of them as people see it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Dead {
    pub id: u64,
    pub at: Moment,
    pub receiver: String,
    pub attempts: u32,
    /// Why it was given up.
    pub cause: String,
    /// What it would have said.
    #[schema(value_type = Object)]
    pub about: Value,
}

/// A letter that is given up.
pub struct Burial {
    pub at: Moment,
    pub letter: Letter,
    pub attempts: u32,
    pub cause: String,
}

#[derive(Default)]
pub struct DeadLetters {
    folder: Option<PathBuf>,
    /// Those of another process have to be written anew.
    kept: VecDeque<(Dead, Option<Letter>)>,
    next: u64,
    /// The file as we know it.
    seen: Option<Stamp>,
}

/// Tells a file from the one that was there before: where, how long, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl DeadLetters {
    /// With those that were left in this folder.
    pub fn read(folder: Option<&Path>) -> DeadLetters {
        let mut dead = DeadLetters { folder: folder.map(Path::to_owned), ..DeadLetters::default() };
        dead.look();
        dead
    }

    /// All in one writing of the file.
    pub fn bury(&mut self, burials: impl IntoIterator<Item = Burial>) {
        let _lock = self.lock();
        self.look();
        for Burial { at, letter, attempts, cause } in burials {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.next += 1;
            let (receiver, about) = (letter.lane.clone(), letter.about.clone());
            let dead = Dead { id: self.next, at, receiver, attempts, cause, about };
            self.kept.push_back((dead, Some(letter)));
        }
        self.write();
    }

    pub fn list(&mut self) -> Vec<Dead> {
        self.look();
        self.kept.iter().map(|(dead, _)| dead.clone()).collect()
    }

    /// `None` where there is none of this number. One that `write_anew` has no
    /// receiver for stays.
    pub fn take(
        &mut self,
        id: u64,
        write_anew: impl FnOnce(&Dead) -> Option<Letter>,
    ) -> Option<Result<Letter, String>> {
        let _lock = self.lock();
        self.look();
        let at = self.kept.iter().position(|(dead, _)| dead.id == id)?;
        let (dead, letter) = &self.kept[at];
        let Some(letter) = letter.clone().or_else(|| write_anew(dead)) else {
            return Some(Err(format!("{} is in the configuration no more", dead.receiver)));
        };
        self.kept.remove(at);
        self.write();
        Some(Ok(letter))
    }

    pub fn kept(&mut self) -> u64 {
        self.look();
        self.kept.len() as u64
    }

    /// Held until it is dropped. Without one there is nobody else to be feared.
    fn lock(&self) -> Option<File> {
        let file = File::create(self.folder.as_ref()?.join(LOCK)).ok()?;
        file.lock().ok().map(|()| file)
    }

    /// What another process has written since we last looked.
    fn look(&mut self) {
        let Some(path) = self.folder.as_ref().map(|folder| folder.join(FILE)) else { return };
        let Some(stamp) = stamp(&path).filter(|stamp| self.seen != Some(*stamp)) else { return };
        self.seen = Some(stamp);
        let read = std::fs::read(&path).map_err(|cause| cause.to_string());
        let left = read
            .and_then(|bytes| serde_json::from_slice::<Vec<Dead>>(&bytes).map_err(|cause| cause.to_string()));
        match left {
            Ok(left) => {
                let ours = self.kept.drain(..).map(|(dead, letter)| (dead.id, letter));
                let mut ours: BTreeMap<u64, Option<Letter>> = ours.collect();
                self.next = self.next.max(left.last().map_or(0, |dead| dead.id));
                let kept = left.into_iter().map(|dead| (ours.remove(&dead.id).flatten(), dead));
                self.kept = kept.map(|(letter, dead)| (dead, letter)).collect();
            }
            Err(cause) => tracing::error!(cause, "the file of dead letters cannot be read"),
        }
    }

    /// The newest that there is room for, as a whole or not at all.
    fn write(&mut self) {
        let Some(folder) = &self.folder else { return };
        let mut room = MOST_BYTES;
        let mut lines: Vec<String> = Vec::new();
        for (dead, _) in self.kept.iter().rev() {
            let line = serde_json::to_string(dead).expect("plain data with text keys");
            let Some(left) = room.checked_sub(line.len() + 2) else { break };
            room = left;
            lines.push(line);
        }
        lines.reverse();
        let fresh = folder.join(FRESH);
        let written = std::fs::write(&fresh, format!("[{}]", lines.join(",\n")))
            .and_then(|()| std::fs::rename(&fresh, folder.join(FILE)));
        if let Err(cause) = written {
            tracing::error!(%cause, "the dead letters are not written, and will not outlive the process");
        }
        self.seen = stamp(&folder.join(FILE));
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some(Stamp(file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::outside::alert::Severity;

    fn letter(lane: &str, about: Value) -> Letter {
        let write = Arc::new(|| Err("nobody asks".to_owned()));
        Letter {
            lane: lane.to_owned(),
            about,
            write,
            retries: 0,
            taken: |_| true,
            severity: Severity::Info,
            state_of: None,
            is_repeated: false,
        }
    }

    fn burial(at: Moment, letter: Letter, attempts: u32) -> Burial {
        Burial { at, letter, attempts, cause: "no".to_owned() }
    }

    #[test]
    fn they_outlive_who_kept_them_within_bounds() {
        let folder = tempfile::tempdir().unwrap();
        let mut dead = DeadLetters::read(Some(folder.path()));
        for nth in 0..KEPT as u64 + 5 {
            dead.bury([burial(Moment(nth), letter("receiver team", Value::from(nth)), 1)]);
        }
        let mut again = DeadLetters::read(Some(folder.path()));
        assert_eq!((again.kept(), again.list()[0].id), (KEPT as u64, 6));
        let big = Value::from("x".repeat(MOST_BYTES / 3));
        (0..5).for_each(|_| dead.bury([burial(Moment(9), letter("a", big.clone()), 1)]));
        let left = DeadLetters::read(Some(folder.path())).kept();
        assert_eq!(left, 2, "no more than there is room for");
        assert!(std::fs::metadata(folder.path().join(FILE)).unwrap().len() < MOST_BYTES as u64);
    }

    #[test]
    fn one_without_a_receiver_stays_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut dead = DeadLetters::read(Some(folder.path()));
        dead.bury([burial(Moment(1), letter("receiver team", Value::Null), 3)]);
        let mut again = DeadLetters::read(Some(folder.path()));
        assert!(again.take(7, |_| None).is_none());
        assert!(again.take(1, |_| None).is_some_and(|taken| taken.is_err_and(|why| why.contains("team"))));
        again.bury([burial(Moment(2), letter("receiver team", Value::Null), 1)]);
        let anew = again.take(1, |dead| Some(letter(&dead.receiver, dead.about.clone())));
        assert!(anew.is_some_and(|taken| taken.is_ok()));
        let ids: Vec<u64> =
            DeadLetters::read(Some(folder.path())).list().iter().map(|dead| dead.id).collect();
        assert_eq!(ids, [2]);
        assert_eq!(dead.list().len(), 1, "who was there before sees it, too");
        std::fs::write(folder.path().join(FILE), "torn").unwrap();
        assert_eq!(DeadLetters::read(Some(folder.path())).kept(), 0);
    }

    #[test]
    fn two_processes_bury_side_by_side_and_lose_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut elder = DeadLetters::read(Some(folder.path()));
        elder.bury([burial(Moment(1), letter("elder", Value::Null), 1)]);
        let mut heir = DeadLetters::read(Some(folder.path()));
        elder.bury([burial(Moment(2), letter("elder", Value::Null), 1)]);
        heir.bury([burial(Moment(3), letter("heir", Value::Null), 1)]);
        elder.bury([burial(Moment(4), letter("elder", Value::Null), 1)]);
        let told = |dead: &mut DeadLetters| -> Vec<(u64, u64)> {
            dead.list().iter().map(|dead| (dead.id, dead.at.0)).collect()
        };
        assert_eq!(told(&mut heir), [(1, 1), (2, 2), (3, 3), (4, 4)]);
        assert_eq!(told(&mut elder), told(&mut heir));
        let anew = heir.take(2, |dead| Some(letter(&dead.receiver, Value::Null)));
        assert!(anew.is_some_and(|taken| taken.is_ok()));
        assert!(elder.take(2, |_| None).is_none(), "it has been sent again");
        let own = elder.take(4, |_| panic!("it has the letter itself"));
        assert!(own.is_some_and(|taken| taken.is_ok_and(|letter| letter.lane == "elder")));
        assert_eq!((heir.kept(), elder.kept()), (2, 2));
    }
}
