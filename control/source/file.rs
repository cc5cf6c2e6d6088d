//! Watches a configuration and the files it refers to, and delivers its text
//! when any of them differs from what was taken.
//!
//! What is watched are folders: an editor renames a new file over the old one,
//! and Kubernetes swaps a symbolic link beside it, and in both cases a watch on
//! the file itself would go on with the dead one. Each link on the way to a file
//! has its folder watched. Since a file system may not tell (network mounts do
//! not), all files are also looked at from time to time.
//!
//! It runs on a thread of its own, because files block.

#![expect(clippy::disallowed_methods, reason = "a pause in what the file system says, and no decision")]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use notify::{EventKind, RecursiveMode, Watcher};

use crate::config::Referenced;
use crate::source::Change;

/// Quiet after the last sign of a change, so that a file half written is not read.
const SETTLE: Duration = Duration::from_millis(50);
/// A file written to without end is read after this all the same.
const SETTLE_MOST: Duration = Duration::from_secs(1);
/// How often to look without any sign.
const LOOK: Duration = Duration::from_secs(30);
/// Links followed on the way to one file.
const MOST_LINKS: usize = 40;
/// Largest file taken.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Watching ends when this is dropped.
pub struct Watch {
    nudges: mpsc::Sender<Nudge>,
}

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("cannot watch {}", path.display())]
    Watch { path: PathBuf, source: notify::Error },
    #[error("cannot start a thread to watch the file")]
    Thread(#[source] io::Error),
}

enum Nudge {
    /// Something happened near the files.
    Sign,
    /// These are the files referred to now, as they were taken.
    Follow(Referenced),
    /// Deliver the text even if it is the same.
    Reread,
    Stop,
}

/// The text of a file of sane size.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(MOST_BYTES + 1);
    file.read_to_string(&mut text)?;
    if file.limit() == 0 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MOST_BYTES} bytes")));
    }
    Ok(text)
}

/// The bytes of a file that a configuration refers to.
pub fn read_referenced(path: &Path) -> io::Result<Vec<u8>> {
    // Asked before it is opened: to open a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(MOST_BYTES + 1);
    file.read_to_end(&mut bytes)?;
    if file.limit() == 0 {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Delivers the file's text each time it, or a file it refers to, differs from
/// the last; `known` and `referenced` are what the caller has. A file that
/// cannot be read is told once.
pub fn watch(
    path: &Path,
    known: String,
    referenced: Referenced,
    changes: tokio::sync::mpsc::Sender<Change>,
) -> Result<Watch, WatchError> {
    let origin = path.display().to_string();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let (nudges, inbox) = mpsc::channel();
    let signs = nudges.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading is an event as well, and no change. An error may hide one.
        let reading = event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
        if !reading {
            // The thread has ended; nobody is interested any more.
            let _ = signs.send(Nudge::Sign);
        }
    })
    .map_err(|source| WatchError::Watch { path: path.clone(), source })?;
    let mut folders = Folders { watcher: Box::new(watcher), watched: BTreeSet::new() };
    folders.follow([path.as_path()]).map_err(|source| WatchError::Watch { path: path.clone(), source })?;
    let mut seen = Seen { path, origin, last: Ok(known), referenced, changes };
    std::thread::Builder::new()
        .name("config-watch".to_owned())
        .spawn(move || run(&inbox, &mut folders, &mut seen))
        .map_err(WatchError::Thread)?;
    Ok(Watch { nudges })
}

impl Watch {
    /// Watches these files from now on beside the configuration itself.
    pub fn follow(&self, referenced: Referenced) {
        // Fails only where the receiver of changes is gone.
        let _ = self.nudges.send(Nudge::Follow(referenced));
    }

    /// Reads the file now and delivers it, changed or not.
    pub fn reread(&self) {
        // Fails only where the receiver of changes is gone.
        let _ = self.nudges.send(Nudge::Reread);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.nudges.send(Nudge::Stop);
    }
}

fn run(inbox: &mpsc::Receiver<Nudge>, folders: &mut Folders, seen: &mut Seen) {
    // The file may have changed between the caller's reading and our watching.
    let mut forced = false;
    loop {
        // Where links lead now is where the next change will be.
        let paths = seen.referenced.paths().chain([seen.path.as_path()]);
        if let Err(error) = folders.follow(paths) {
            tracing::debug!(path = %seen.path.display(), ?error, "cannot watch where the files are");
        }
        if !seen.look(forced) {
            return;
        }
        let nudge = match inbox.recv_timeout(LOOK) {
            Ok(Nudge::Sign) => settle(inbox),
            Ok(nudge) => Some(nudge),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        forced = match nudge {
            Some(Nudge::Stop) => return,
            Some(Nudge::Reread) => true,
            Some(Nudge::Follow(referenced)) => {
                seen.referenced = referenced;
                false
            }
            Some(Nudge::Sign) | None => false,
        };
    }
}

/// Waits until it is quiet, or something else is asked for.
fn settle(inbox: &mpsc::Receiver<Nudge>) -> Option<Nudge> {
    let latest = Instant::now() + SETTLE_MOST;
    while Instant::now() < latest {
        match inbox.recv_timeout(SETTLE) {
            Ok(Nudge::Sign) => {}
            Ok(nudge) => return Some(nudge),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return Some(Nudge::Stop),
        }
    }
    None
}

struct Folders {
    watcher: Box<dyn Watcher + Send>,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
    /// Watches every folder where a change could make one of these paths lead
    /// to other bytes. Tries them all, and answers with what went wrong first.
    fn follow<'p>(&mut self, paths: impl IntoIterator<Item = &'p Path>) -> notify::Result<()> {
        let wanted: BTreeSet<PathBuf> = paths.into_iter().flat_map(folders_on_the_way).collect();
        for gone in self.watched.difference(&wanted) {
            // A folder that is gone is no longer watched anyway.
            let _ = self.watcher.unwatch(gone);
        }
        let mut followed = Ok(());
        self.watched.clear();
        for folder in wanted {
            // Also those watched already: one that was removed and made anew is
            // a different folder under the same name.
            match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(folder)),
                Err(error) => followed = followed.and(Err(error)),
            }
        }
        followed
    }
}

/// The folder of the file, that of each link that leads to it, and where the
/// way ends early the last folder there is.
fn folders_on_the_way(path: &Path) -> BTreeSet<PathBuf> {
    let steps = |path: &Path| {
        let names = path.components().rev().filter(|step| !matches!(step, Component::CurDir));
        names.map(|step| step.as_os_str().to_owned()).collect::<Vec<OsString>>()
    };
    let mut folders = BTreeSet::new();
    let mut ahead = steps(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
    let mut folder = PathBuf::from("/");
    let mut links = 0;
    while let Some(step) = ahead.pop() {
        if step == ".." {
            folder.pop();
            continue;
        }
        let here = folder.join(&step);
        match here.symlink_metadata() {
            Ok(found) if found.is_symlink() && links < MOST_LINKS => {
                links += 1;
                folders.insert(folder.clone());
                ahead.extend(steps(&std::fs::read_link(&here).unwrap_or_default()));
            }
            Ok(found) if found.is_dir() && !ahead.is_empty() => folder = here,
            _ => break,
        }
    }
    folders.insert(folder);
    folders
}

struct Seen {
    path: PathBuf,
    /// The path as the user gave it.
    origin: String,
    /// The text last delivered, or how the last reading failed.
    last: Result<String, io::ErrorKind>,
    /// The files referred to, as the caller or we have last seen them.
    referenced: Referenced,
    changes: tokio::sync::mpsc::Sender<Change>,
}

impl Seen {
    /// Reads, and delivers what is new. `false` when nobody listens any more.
    fn look(&mut self, forced: bool) -> bool {
        let text = read(&self.path);
        let found = text.as_ref().map(String::clone).map_err(io::Error::kind);
        let referenced = self.referenced.again(read_referenced);
        if !forced && self.last == found && self.referenced == referenced {
            return !self.changes.is_closed();
        }
        self.last = found;
        self.referenced = referenced;
        let change = Change { origin: self.origin.clone(), text };
        self.changes.blocking_send(change).is_ok()
    }
}

#[cfg(test)]
mod tests;
