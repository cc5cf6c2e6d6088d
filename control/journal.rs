//! The append-only record of what was decided and why, and the way back from it.
//!
//! One JSON object per line. It knows files and lines; what a checkpoint means is
//! the engine's business. A line that a crash tore off at the end is cut away when
//! the journal is opened; damage anywhere else is refused, because a fall of a
//! weight could be among what is lost. The file is bounded: past a size its owner
//! rewrites it from what still matters, and one older file is kept.

pub mod coded;
pub mod looks;
pub mod saved;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serin_proxy::Weights;

use crate::clock::Moment;
use crate::falls::{Fall, Falls};
use crate::judge::evidence::Evidence;
use crate::rollout::{Action, Checkpoint, Command, Event, Spec};

/// Past this many bytes the owner is asked to rewrite.
const LIMIT: u64 = 16 << 20;
/// What the lines mean; a journal of another version is refused.
const VERSION: u32 = 1;
const FILE: &str = "journal.jsonl";
const OLDER: &str = "journal.old.jsonl";
const FRESH: &str = "journal.new.jsonl";
const LOCK: &str = "lock";
/// So much of what was told is found again.
const TOLD: usize = 1_024;

/// One line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry<'a> {
    Journal {
        version: u32,
    },
    /// A rollout governs its split from now on, for the release at `canary`.
    Governs {
        at: Moment,
        rollout: &'a str,
        spec: &'a Spec,
        canary: &'a [String],
    },
    /// A rollout is no longer configured.
    Dropped {
        at: Moment,
        rollout: &'a str,
    },
    /// What a rollout was given since its last line, while nothing was decided; and
    /// of how many looks that is not known any more.
    Looks {
        at: Moment,
        rollout: &'a str,
        /// It had last looked then.
        after: Moment,
        #[serde(skip_serializing_if = "is_zero")]
        lost: u64,
        /// Its state before, where its last line says another.
        #[serde(skip_serializing_if = "Option::is_none")]
        base: Option<&'a Checkpoint>,
        /// As `coded` has it.
        #[serde(serialize_with = "as_text")]
        looks: &'a [u8],
    },
    /// The look on which this was decided, and the state after it.
    Decision {
        at: Moment,
        rollout: &'a str,
        after: Moment,
        evidence: &'a Evidence,
        commands: &'a [Command],
        actions: &'a [Action],
        checkpoint: &'a Checkpoint,
    },
    Checkpoint {
        at: Moment,
        rollout: &'a str,
        checkpoint: &'a Checkpoint,
    },
    /// An operator set weights by hand while the file asked for `asked`; no
    /// weights: the file's word counts again.
    Weights {
        at: Moment,
        split: &'a str,
        asked: &'a Weights,
        weights: Option<&'a Weights>,
    },
}

/// What the journal said when it was opened: for everything the last word.
#[derive(Debug, Default, PartialEq)]
pub struct Past {
    pub latest: Moment,
    pub rollouts: BTreeMap<String, PastRollout>,
    pub weights: BTreeMap<String, Manual>,
    /// What fell and was not written before the process was killed.
    pub falls: BTreeMap<String, Fall>,
    /// The newest of what was told.
    pub told: VecDeque<Event>,
    /// Bytes of a torn last line that were cut away.
    pub cut: u64,
}

#[derive(Debug, Default, PartialEq)]
pub struct PastRollout {
    /// When it was last written of.
    pub at: Moment,
    pub canary: Vec<String>,
    /// Left as JSON: whether today's engine understands it is not ours to say.
    pub checkpoint: Option<Value>,
}

/// Weights set by hand, and what the file asked for when they were.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manual {
    pub asked: Weights,
    pub weights: Weights,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot write to the state directory {}: {cause}", .directory.display())]
    Unwritable { directory: PathBuf, cause: std::io::Error },
    #[error("the state directory {} is in use by another serin", .0.display())]
    InUse(PathBuf),
    #[error("{}:{line} is damaged: {cause}; move the file away to start without its rollouts", .file.display())]
    Damaged { file: PathBuf, line: usize, cause: String },
}

pub struct Journal {
    directory: PathBuf,
    /// None where there is no place for one: then nothing is ever written.
    file: Option<File>,
    /// Bytes that are whole lines; what a failed write left beyond it is cut.
    length: u64,
    torn: bool,
    limit: u64,
    /// Held for as long as the journal is open, by us or by who inherits it.
    lock: Option<File>,
    /// Beside it; none where there can be none.
    falls: Option<Falls>,
}

impl Journal {
    /// A journal that takes nothing, where nothing can be written.
    pub fn nowhere(directory: &Path) -> Journal {
        let directory = directory.to_owned();
        Journal { directory, file: None, length: 0, torn: false, limit: LIMIT, lock: None, falls: None }
    }

    pub fn is_somewhere(&self) -> bool {
        self.file.is_some()
    }

    /// Opens or begins the journal of a state directory, for this process alone.
    pub fn open(directory: &Path) -> Result<(Journal, Past), OpenError> {
        let unwritable = |cause| OpenError::Unwritable { directory: directory.to_owned(), cause };
        std::fs::create_dir_all(directory).map_err(unwritable)?;
        Journal::read(directory, lock(directory)?)
    }

    /// Takes over the journal of a process that writes it no more; `lock` is its
    /// own, so that there was no moment without one.
    pub fn inherit(directory: &Path, lock: OwnedFd) -> Result<(Journal, Past), OpenError> {
        Journal::read(directory, lock.into())
    }

    /// For who inherits the journal. From then on nothing may be written here,
    /// unless he fails and it is taken back.
    pub fn bequeath(&self) -> std::io::Result<OwnedFd> {
        Ok(self.lock.as_ref().ok_or_else(no_place)?.try_clone()?.into())
    }

    /// Whoever was to inherit it has ended; what he wrote stands.
    pub fn take_back(&mut self) -> Result<(), OpenError> {
        let unwritable = |cause| OpenError::Unwritable { directory: self.directory.clone(), cause };
        let lock = self.lock.as_ref().ok_or_else(no_place).and_then(File::try_clone).map_err(unwritable)?;
        let (journal, _) = Journal::read(&self.directory, lock)?;
        *self = journal;
        Ok(())
    }

    fn read(directory: &Path, lock: File) -> Result<(Journal, Past), OpenError> {
        let unwritable = |cause| OpenError::Unwritable { directory: directory.to_owned(), cause };
        let path = directory.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unwritable)?;
        let (mut past, length) = read(&path, &file)?;
        let falls = match Falls::open(directory) {
            Ok((falls, noted)) => {
                past.falls = noted;
                Some(falls)
            }
            Err(cause) => {
                tracing::warn!(%cause, "a fall of a weight right before a kill will not be remembered");
                None
            }
        };
        file.set_len(length).map_err(unwritable)?;
        file.seek(SeekFrom::Start(length)).map_err(unwritable)?;
        let directory = directory.to_owned();
        let mut journal = Journal {
            directory,
            file: Some(file),
            length,
            torn: false,
            limit: LIMIT,
            lock: Some(lock),
            falls,
        };
        if length == 0 {
            let directory = journal.directory.clone();
            journal
                .append(&[Entry::Journal { version: VERSION }])
                .and_then(|()| journal.sync())
                .and_then(|()| File::open(&directory)?.sync_all())
                .map_err(|cause| OpenError::Unwritable { directory, cause })?;
        }
        Ok((journal, past))
    }

    /// A weight has fallen. Waits for no disk, and outlives this process.
    pub fn note_fall(&self, rollout: &str, fall: Fall) {
        if let Some(falls) = &self.falls {
            falls.note(rollout, fall);
        }
    }

    /// What was noted of this rollout is written by now.
    pub fn forget_fall(&self, rollout: &str) {
        if let Some(falls) = &self.falls {
            falls.forget(rollout);
        }
    }

    /// All that stands is written by now.
    pub fn forget_falls(&self) {
        if let Some(falls) = &self.falls {
            falls.forget_all();
        }
    }

    /// Appends whole lines: after a kill of this process they are there.
    pub fn append(&mut self, entries: &[Entry<'_>]) -> std::io::Result<()> {
        let file = self.file.as_mut().ok_or_else(no_place)?;
        if self.torn {
            file.set_len(self.length)?;
            file.seek(SeekFrom::Start(self.length))?;
            self.torn = false;
        }
        let lines = lines(entries)?;
        let written = file.write_all(&lines);
        self.torn = written.is_err();
        written?;
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Makes what was appended outlive the machine's power too.
    pub fn sync(&mut self) -> std::io::Result<()> {
        self.file.as_ref().ok_or_else(no_place)?.sync_data()
    }

    /// Whether it is time for [`Journal::rewrite`].
    pub fn is_oversized(&self) -> bool {
        self.length > self.limit
    }

    /// Begins a fresh file that holds only `entries`; the present one becomes the
    /// older one. At every moment one of them stands under the journal's name.
    pub fn rewrite(&mut self, entries: &[Entry<'_>]) -> std::io::Result<()> {
        let path = self.directory.join(FILE);
        let fresh = self.directory.join(FRESH);
        let older = self.directory.join(OLDER);
        let mut content = lines(&[Entry::Journal { version: VERSION }])?;
        content.extend(lines(entries)?);
        let mut file = File::create(&fresh)?;
        file.write_all(&content)?;
        file.sync_all()?;
        if older.exists() {
            std::fs::remove_file(&older)?;
        }
        std::fs::hard_link(&path, &older)?;
        std::fs::rename(&fresh, &path)?;
        (self.file, self.length, self.torn) = (Some(file), content.len() as u64, false);
        // A file of live checkpoints alone above the limit must not be rewritten for ever.
        self.limit = self.limit.max(self.length * 2);
        File::open(&self.directory)?.sync_all()
    }
}

#[cfg(test)]
impl Journal {
    /// Opens what was open a moment ago. A process that another test has started
    /// holds our files until it has become the other program.
    pub fn reopen(directory: &Path) -> Result<(Journal, Past), OpenError> {
        for _ in 0..1_000 {
            match Journal::open(directory) {
                Err(OpenError::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(2)),
                other => return other,
            }
        }
        Journal::open(directory)
    }

    /// Asks for a rewrite as soon as there are so many bytes.
    pub fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// From here on every write fails, as on a full disk.
    pub fn break_down(&mut self) {
        let file = File::open(self.directory.join(FILE));
        self.file = Some(file.expect("an open journal has its file"));
    }

    pub fn mend(&mut self) {
        let path = self.directory.join(FILE);
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = self.file.insert(file.expect("it was writable before"));
        file.seek(SeekFrom::Start(self.length)).expect("files can be sought in");
    }
}

fn no_place() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, "there is no state directory")
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let unwritable = |cause| OpenError::Unwritable { directory: directory.to_owned(), cause };
    let file = File::create(directory.join(LOCK)).map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(directory.to_owned())),
        Err(TryLockError::Error(cause)) => Err(unwritable(cause)),
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn as_text<S: serde::Serializer>(bytes: &&[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&STANDARD.encode(bytes))
}

fn lines(entries: &[Entry<'_>]) -> std::io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// A line as it is read: only what a restart needs.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Journal {
        version: u32,
    },
    Governs {
        at: Moment,
        rollout: String,
        canary: Vec<String>,
    },
    Dropped {
        at: Moment,
        rollout: String,
    },
    Looks {
        at: Moment,
    },
    Decision {
        at: Moment,
        rollout: String,
        checkpoint: Value,
        #[serde(default)]
        actions: Vec<Value>,
    },
    Checkpoint {
        at: Moment,
        rollout: String,
        checkpoint: Value,
    },
    Weights {
        at: Moment,
        split: String,
        asked: Weights,
        weights: Option<Weights>,
    },
}

/// The last word on everything, and the length of what is whole.
fn read(path: &Path, file: &File) -> Result<(Past, u64), OpenError> {
    let mut past = Past::default();
    let whole = saved::each(file, |line| match line {
        Line::Journal { version } if version != VERSION => {
            Err(format!("it is of version {version}, not {VERSION}"))
        }
        line => {
            past.take(line);
            Ok(())
        }
    });
    let saved::Whole { length, cut } = whole.map_err(|saved::Damage { line, cause }| OpenError::Damaged {
        file: path.to_owned(),
        line,
        cause,
    })?;
    past.cut = cut;
    let missing = TOLD - past.told.len();
    let before = saved::told(&path.with_file_name(OLDER), missing);
    before.into_iter().rev().for_each(|event| past.told.push_front(event));
    Ok((past, length))
}

impl Past {
    fn take(&mut self, line: Line) {
        let at = match line {
            Line::Journal { .. } => return,
            Line::Governs { at, rollout, canary } => {
                let past = self.rollouts.entry(rollout).or_default();
                (past.at, past.canary) = (at, canary);
                at
            }
            Line::Dropped { at, rollout } => {
                self.rollouts.remove(&rollout);
                at
            }
            Line::Looks { at } => at,
            Line::Decision { at, rollout, checkpoint, actions } => {
                actions.into_iter().filter_map(event_of).for_each(|event| self.tell(event));
                let past = self.rollouts.entry(rollout).or_default();
                (past.at, past.checkpoint) = (at, Some(checkpoint));
                at
            }
            Line::Checkpoint { at, rollout, checkpoint } => {
                let past = self.rollouts.entry(rollout).or_default();
                (past.at, past.checkpoint) = (at, Some(checkpoint));
                at
            }
            Line::Weights { at, split, asked, weights: Some(weights) } => {
                self.weights.insert(split, Manual { asked, weights });
                at
            }
            Line::Weights { at, split, weights: None, .. } => {
                self.weights.remove(&split);
                at
            }
        };
        self.latest = self.latest.max(at);
    }

    fn tell(&mut self, event: Event) {
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        self.told.push_back(event);
    }
}

/// What an action tells. Whether today's engine knows all of its words is not for a
/// start to fail of.
fn event_of(mut action: Value) -> Option<Event> {
    serde_json::from_value(action.get_mut("tell")?.get_mut("event")?.take()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(parts: u32) -> Weights {
        Weights::pair("primary", "canary", parts)
    }

    /// Weights stand in for checkpoints: any line will do to be torn.
    fn append(journal: &mut Journal, at: u64, parts: u32) {
        let (asked, weights) = (weights(0), weights(parts));
        let entry = Entry::Weights { at: Moment(at), split: "web", asked: &asked, weights: Some(&weights) };
        journal.append(&[entry]).unwrap();
    }

    fn canary_of(past: &Past) -> Option<u32> {
        past.weights.get("web").map(|manual| manual.weights.of("canary"))
    }

    #[test]
    fn torn_at_any_byte_it_says_what_its_whole_lines_say_and_goes_on() {
        let original = tempfile::tempdir().unwrap();
        let path = original.path().join(FILE);
        // How long the file is after each line, and what it then says.
        let mut known = Vec::new();
        {
            let (mut journal, _) = Journal::open(original.path()).unwrap();
            known.push((journal.length, None));
            for i in 1..=4 {
                append(&mut journal, u64::from(i), i * 100);
                known.push((journal.length, Some(i * 100)));
            }
        }
        let content = std::fs::read(&path).unwrap();
        for cut in 0..=content.len() {
            let copy = tempfile::tempdir().unwrap();
            std::fs::write(copy.path().join(FILE), &content[..cut]).unwrap();
            let said = known.iter().rev().find(|(length, _)| *length <= cut as u64);
            {
                let (mut journal, past) = Journal::open(copy.path()).unwrap();
                assert_eq!(canary_of(&past), said.and_then(|(_, parts)| *parts), "cut at {cut}");
                append(&mut journal, 9, 7);
            }
            let (_, past) = Journal::reopen(copy.path()).unwrap();
            assert_eq!((canary_of(&past), past.latest, past.cut), (Some(7), Moment(9), 0), "cut at {cut}");
        }
    }

    #[test]
    fn damage_before_a_whole_line_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (mut journal, _) = Journal::open(directory.path()).unwrap();
            append(&mut journal, 1, 100);
            append(&mut journal, 2, 0);
        }
        let path = directory.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap().replacen("\"at\":1", "\"at\":!", 1);
        std::fs::write(&path, text).unwrap();
        let refusal = Journal::reopen(directory.path()).err().unwrap();
        assert!(matches!(refusal, OpenError::Damaged { line: 2, .. }), "{refusal}");
    }

    #[test]
    fn two_processes_cannot_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let held = Journal::open(directory.path()).unwrap();
        assert!(matches!(Journal::open(directory.path()), Err(OpenError::InUse(_))));
        drop(held);
        assert!(Journal::reopen(directory.path()).is_ok());
    }

    #[test]
    fn directory_that_cannot_be_written_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        let refusal = Journal::open(&file.join("state")).err().unwrap();
        assert!(refusal.to_string().contains("file/state"), "{refusal}");
    }

    #[test]
    fn rewritten_journal_says_the_same_and_keeps_one_older_file() {
        let directory = tempfile::tempdir().unwrap();
        {
            let (mut journal, _) = Journal::open(directory.path()).unwrap();
            for round in 0..2 {
                append(&mut journal, round, 100);
                let (asked, now) = (weights(0), weights(250));
                let entry =
                    Entry::Weights { at: Moment(8), split: "web", asked: &asked, weights: Some(&now) };
                journal.rewrite(&[entry]).unwrap();
            }
            append(&mut journal, 9, 300);
        }
        let (journal, past) = Journal::reopen(directory.path()).unwrap();
        assert_eq!(canary_of(&past), Some(300));
        assert!(!journal.is_oversized());
        let mut names: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["falls.cell", FILE, OLDER, LOCK]);
    }

    #[test]
    fn journal_of_another_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), "{\"kind\":\"journal\",\"version\":2}\n").unwrap();
        assert!(matches!(Journal::reopen(directory.path()), Err(OpenError::Damaged { line: 1, .. })));
    }
}
