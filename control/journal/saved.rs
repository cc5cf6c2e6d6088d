//! A journal as it was written, line by line, for who goes through all of it. It
//! may still be written to while it is read, and changes nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{FILE, OLDER, VERSION, event_of};
use crate::clock::Moment;
use crate::judge::evidence::Evidence;
use crate::rollout::{Action, Checkpoint, Command, Event, Spec};

/// A line with all that it says of a rollout.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Saved {
    Journal {
        version: u32,
    },
    Governs {
        at: Moment,
        rollout: String,
        spec: Box<Spec>,
    },
    Dropped {
        at: Moment,
        rollout: String,
    },
    Looks {
        at: Moment,
        rollout: String,
        after: Moment,
        #[serde(default)]
        lost: u64,
        base: Option<Box<Checkpoint>>,
        looks: String,
    },
    Decision {
        at: Moment,
        rollout: String,
        /// None where it was written by a serin that kept no looks.
        after: Option<Moment>,
        evidence: Evidence,
        commands: Vec<Command>,
        actions: Vec<Action>,
        checkpoint: Box<Checkpoint>,
    },
    Checkpoint {
        at: Moment,
        rollout: String,
        checkpoint: Box<Checkpoint>,
    },
    Weights {},
}

/// How much of a file is whole lines, and how much at its end is not.
pub struct Whole {
    pub length: u64,
    pub cut: u64,
}

pub struct Damage {
    pub line: usize,
    pub cause: String,
}

#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("cannot read {}: {cause}", .file.display())]
    Closed { file: PathBuf, cause: std::io::Error },
    #[error("there is no journal in {}", .0.display())]
    Nowhere(PathBuf),
    #[error("{}:{line} cannot be read: {cause}", .file.display())]
    Damaged { file: PathBuf, line: usize, cause: String },
}

/// The files of the journal that is meant, oldest first: a state directory, or the
/// file itself, which may have an older one beside it.
pub fn files(meant: &Path) -> Result<Vec<PathBuf>, Unreadable> {
    let newest = if meant.is_dir() { meant.join(FILE) } else { meant.to_owned() };
    if !newest.exists() {
        return Err(Unreadable::Nowhere(meant.to_owned()));
    }
    let older = Some(newest.with_file_name(OLDER));
    let has_older = |older: &PathBuf| newest.file_name().is_some_and(|name| name == FILE) && older.exists();
    Ok(older.filter(has_older).into_iter().chain([newest.clone()]).collect())
}

/// Goes through a file. Answers with the bytes of a torn last line.
pub fn lines(path: &Path, mut take: impl FnMut(Saved)) -> Result<u64, Unreadable> {
    let file = File::open(path).map_err(|cause| Unreadable::Closed { file: path.to_owned(), cause })?;
    let whole = each(&file, |line| match line {
        Saved::Journal { version } if version != VERSION => {
            Err(format!("it is of version {version}, not {VERSION}"))
        }
        line => {
            take(line);
            Ok(())
        }
    });
    let damaged = |Damage { line, cause }| Unreadable::Damaged { file: path.to_owned(), line, cause };
    whole.map(|whole| whole.cut).map_err(damaged)
}

/// The newest of what was told in a file, so many at most; nothing where it cannot be
/// read. Most lines tell nothing, and are not taken apart.
pub(super) fn told(path: &Path, most: usize) -> VecDeque<Event> {
    #[derive(Deserialize)]
    struct Telling {
        #[serde(default)]
        actions: Vec<Value>,
    }
    let mut told = VecDeque::new();
    let Some(mut reader) = File::open(path).ok().filter(|_| most > 0).map(BufReader::new) else {
        return told;
    };
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let tells = std::str::from_utf8(&line).is_ok_and(|line| line.contains(r#"{"tell":"#));
        let telling = tells.then(|| serde_json::from_slice::<Telling>(&line).ok()).flatten();
        told.extend(telling.into_iter().flat_map(|telling| telling.actions).filter_map(event_of));
        told.drain(..told.len().saturating_sub(most));
        line.clear();
    }
    told
}

/// Takes every line. A last line that is not whole is left out of the length; one
/// that is damaged before a whole one is an error.
pub(super) fn each<L: DeserializeOwned>(
    file: &File,
    mut take: impl FnMut(L) -> Result<(), String>,
) -> Result<Whole, Damage> {
    let mut whole = Whole { length: 0, cut: 0 };
    let mut reader = BufReader::new(file);
    let mut torn: Option<Damage> = None;
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let read = reader.read_until(b'\n', &mut bytes);
        let read = read.map_err(|cause| Damage { line, cause: cause.to_string() })?;
        if read == 0 {
            break;
        }
        match serde_json::from_slice(&bytes) {
            Ok(_) if !bytes.ends_with(b"\n") => whole.cut += read as u64,
            Ok(said) => {
                if let Some(damage) = torn {
                    return Err(damage);
                }
                take(said).map_err(|cause| Damage { line, cause })?;
                whole.length += read as u64;
            }
            Err(cause) => {
                whole.cut += read as u64;
                torn.get_or_insert(Damage { line, cause: cause.to_string() });
            }
        }
    }
    Ok(whole)
}
