//! Gates that people open and close by hand, as Flagger's load tester has them:
//! one for each rollout and namespace, and another that rolls it back.
//!
//! All are closed until opened. The state is a file that is replaced whole, so that
//! an approval outlives a restart and no half-written one is read. Whoever asks
//! whether a gate is open waits for no disk.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

const FILE: &str = "gates.json";
const FRESH: &str = "gates.new.json";
/// More open gates than this are more than there are rollouts.
const MOST: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Gate,
    Rollback,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Gate {
    kind: Kind,
    name: String,
    namespace: String,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Gates {
    /// None where nothing can be kept.
    folder: Option<PathBuf>,
    open: Arc<Mutex<BTreeSet<Gate>>>,
    /// Held by whoever reads or writes the file, so that the last state is the last
    /// written.
    file: Arc<Mutex<()>>,
    changes: Arc<watch::Sender<u64>>,
}

impl Gates {
    /// As they were left in this folder.
    pub fn read(folder: Option<&Path>) -> std::io::Result<Gates> {
        let read = folder.map(|folder| std::fs::read(folder.join(FILE)));
        let open = match read {
            Some(Ok(bytes)) => serde_json::from_slice(&bytes)?,
            Some(Err(cause)) if cause.kind() != std::io::ErrorKind::NotFound => return Err(cause),
            Some(Err(_)) | None => BTreeSet::new(),
        };
        Ok(Gates {
            folder: folder.map(Path::to_owned),
            open: Arc::new(Mutex::new(open)),
            file: Arc::default(),
            changes: Arc::new(watch::Sender::new(0)),
        })
    }

    /// As the file has them now: the process before us may have gone on writing it
    /// while we started. Blocks.
    pub fn read_again(&self) {
        let _file = self.file.lock().expect("no holder panics");
        match Gates::read(self.folder.as_deref()) {
            Ok(now) => self.turn(now.all_open()),
            Err(cause) => tracing::error!(%cause, "the gates cannot be read again"),
        }
    }

    pub fn is_open(&self, kind: Kind, name: &str, namespace: &str) -> bool {
        self.open.lock().expect("no holder panics").contains(&gate(kind, name, namespace))
    }

    /// In force, and on disk where there is one, when this returns. Blocks.
    pub fn set(&self, kind: Kind, name: &str, namespace: &str, is_open: bool) -> std::io::Result<()> {
        let _file = self.file.lock().expect("no holder panics");
        let mut next = self.all_open();
        let is_new = if is_open {
            next.insert(gate(kind, name, namespace))
        } else {
            next.remove(&gate(kind, name, namespace))
        };
        if !is_new {
            return Ok(());
        }
        if next.len() > MOST {
            return Err(std::io::Error::other(format!("more than {MOST} gates are open")));
        }
        if let Some(folder) = self.folder.as_deref() {
            write(folder, &next)?;
        }
        self.turn(next);
        Ok(())
    }

    fn all_open(&self) -> BTreeSet<Gate> {
        self.open.lock().expect("no holder panics").clone()
    }

    fn turn(&self, next: BTreeSet<Gate>) {
        *self.open.lock().expect("no holder panics") = next;
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Tells whenever one is opened or closed.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn gate(kind: Kind, name: &str, namespace: &str) -> Gate {
    Gate { kind, name: name.to_owned(), namespace: namespace.to_owned() }
}

fn write(folder: &Path, open: &BTreeSet<Gate>) -> std::io::Result<()> {
    let fresh = folder.join(FRESH);
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(open)?)?;
    file.sync_data()?;
    std::fs::rename(fresh, folder.join(FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_closed_until_opened_and_outlive_who_kept_them() {
        let folder = tempfile::tempdir().unwrap();
        let gates = Gates::read(Some(folder.path())).unwrap();
        let mut changes = gates.watch();
        assert!(!gates.is_open(Kind::Gate, "web", "default"));
        gates.set(Kind::Gate, "web", "default", true).unwrap();
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        gates.set(Kind::Gate, "web", "default", true).unwrap();
        gates.set(Kind::Rollback, "web", "default", false).unwrap();
        assert!(!changes.has_changed().unwrap(), "they were so before");
        let again = Gates::read(Some(folder.path())).unwrap();
        assert!(again.is_open(Kind::Gate, "web", "default"));
        assert!(!again.is_open(Kind::Rollback, "web", "default"), "another gate");
        assert!(!again.is_open(Kind::Gate, "web", "test"), "another namespace");
        again.set(Kind::Gate, "web", "default", false).unwrap();
        assert!(!Gates::read(Some(folder.path())).unwrap().is_open(Kind::Gate, "web", "default"));
    }

    #[test]
    fn a_disk_that_takes_its_time_holds_up_nobody_who_asks() {
        let folder = tempfile::tempdir().unwrap();
        let gates = Gates::read(Some(folder.path())).unwrap();
        // Whoever opens a pipe to write to it waits for a reader.
        let pipe = folder.path().join(FRESH);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.is_ok_and(|status| status.success()));
        let writer = gates.clone();
        let writing = std::thread::spawn(move || writer.set(Kind::Gate, "web", "default", true));
        while gates.file.try_lock().is_ok() {
            std::thread::yield_now();
        }
        let (told, answer) = std::sync::mpsc::channel();
        let asker = gates.clone();
        std::thread::spawn(move || told.send(asker.is_open(Kind::Gate, "web", "default")));
        let answer = answer.recv_timeout(std::time::Duration::from_secs(10));
        assert_eq!(answer, Ok(false), "it is open when it is kept");
        drop(std::fs::File::open(&pipe).unwrap());
        assert!(writing.join().unwrap().is_err(), "a pipe keeps nothing");
        assert!(!gates.is_open(Kind::Gate, "web", "default"));
    }
}
