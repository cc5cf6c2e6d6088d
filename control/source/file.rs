//! Watches one file and delivers its new text.
//!
//! What is watched is the folder: an editor renames a new file over the old
//! one, and Kubernetes swaps a symbolic link beside it, and in both cases a
//! watch on the file itself would go on with the dead one. Where the file is a
//! link into another folder, that folder is watched too. Since a file system
//! may not tell (network mounts do not), the file is also looked at from time
//! to time.
//!
//! It runs on a thread of its own, because files block.

#![expect(clippy::disallowed_methods, reason = "a pause in what the file system says, and no decision")]

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use notify::{EventKind, RecursiveMode, Watcher};

use crate::source::Change;

/// Quiet after the last sign of a change, so that a file half written is not read.
const SETTLE: Duration = Duration::from_millis(50);
/// A file written to without end is read after this all the same.
const SETTLE_MOST: Duration = Duration::from_secs(1);
/// How often to look without any sign.
const LOOK: Duration = Duration::from_secs(30);
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
    /// Something happened near the file.
    Sign,
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

/// Delivers the file's text each time it differs from the last; `known` is the
/// text that the caller has. A file that cannot be read is told once.
pub fn watch(
    path: &Path,
    known: String,
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
    folders.follow(&path)?;
    let mut seen = Seen { path, origin, last: Ok(known), changes };
    std::thread::Builder::new()
        .name("config-watch".to_owned())
        .spawn(move || run(&inbox, &mut folders, &mut seen))
        .map_err(WatchError::Thread)?;
    Ok(Watch { nudges })
}

impl Watch {
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
        if let Err(error) = folders.follow(&seen.path) {
            tracing::debug!(path = %seen.path.display(), ?error, "cannot watch where the file is");
        }
        if !seen.look(forced) {
            return;
        }
        forced = match inbox.recv_timeout(LOOK) {
            Ok(Nudge::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Nudge::Reread) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Ok(Nudge::Sign) => match settle(inbox) {
                Some(forced) => forced,
                None => return,
            },
        };
    }
}

/// Waits until it is quiet. `None` is the end; `Some(true)` asks for the text
/// changed or not.
fn settle(inbox: &mpsc::Receiver<Nudge>) -> Option<bool> {
    let latest = Instant::now() + SETTLE_MOST;
    while Instant::now() < latest {
        match inbox.recv_timeout(SETTLE) {
            Ok(Nudge::Sign) => {}
            Ok(Nudge::Reread) => return Some(true),
            Ok(Nudge::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    Some(false)
}

struct Folders {
    watcher: Box<dyn Watcher + Send>,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
    /// Watches the folder of the file and the one it really lies in.
    fn follow(&mut self, path: &Path) -> Result<(), WatchError> {
        let folder = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut wanted = BTreeSet::from([folder(path)]);
        if let Ok(real) = path.canonicalize() {
            wanted.insert(folder(&real));
        }
        for gone in self.watched.difference(&wanted) {
            // A folder that is gone is no longer watched anyway.
            let _ = self.watcher.unwatch(gone);
        }
        self.watched.retain(|folder| wanted.contains(folder));
        for folder in wanted {
            // Also those watched already: one that was removed and made anew is
            // a different folder under the same name.
            self.watcher
                .watch(&folder, RecursiveMode::NonRecursive)
                .map_err(|source| WatchError::Watch { path: folder.clone(), source })?;
            self.watched.insert(folder);
        }
        Ok(())
    }
}

struct Seen {
    path: PathBuf,
    /// The path as the user gave it.
    origin: String,
    /// The text last delivered, or how the last reading failed.
    last: Result<String, io::ErrorKind>,
    changes: tokio::sync::mpsc::Sender<Change>,
}

impl Seen {
    /// Reads, and delivers what is new. `false` when nobody listens any more.
    fn look(&mut self, forced: bool) -> bool {
        let text = read(&self.path);
        let found = text.as_ref().map(String::clone).map_err(io::Error::kind);
        if !forced && self.last == found {
            return !self.changes.is_closed();
        }
        self.last = found;
        let change = Change { origin: self.origin.clone(), text };
        self.changes.blocking_send(change).is_ok()
    }
}

#[cfg(test)]
mod tests;
