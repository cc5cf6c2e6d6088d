//! What the system lets this process have: descriptors and memory.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serin_proxy::{Ceilings, Model};

/// Descriptors that are not connections: logs, the journal, what is watched.
const OTHERS: u64 = 64;

/// Raises what may be raised and answers with the ceilings that follow from it.
pub fn respect() -> Ceilings {
    let descriptors = raise_descriptors();
    let memory_bytes = memory();
    if let Some(bytes) = memory_bytes {
        tracing::info!(bytes, "memory is limited by the system");
    }
    // A request that is under way takes two: its client's and its version's.
    let connections = descriptors.map(|descriptors| descriptors.saturating_sub(OTHERS) / 2);
    Ceilings { memory_bytes, connections }
}

/// Tells of ceilings in the file that the process cannot reach.
pub fn warn_of_short_descriptors(model: &Model, ceilings: &Ceilings) {
    let Some(most) = ceilings.connections else { return };
    if let Some(asked) = model.overload.connections.filter(|asked| *asked > most) {
        tracing::warn!(
            asked,
            descriptors_allow = most,
            "overload.connections is more than the descriptors allow when all are busy; raise the limit of open files"
        );
    }
}

fn raise_descriptors() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => return maximum,
            Err(cause) => tracing::warn!(%cause, ?current, ?maximum, "the limit of open files is not raised"),
        }
    }
    current
}

/// The smallest of what the control groups above us allow, and of the address space.
fn memory() -> Option<u64> {
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"));
    let own = group.map(|group| smallest(Path::new("/sys/fs/cgroup"), group)).unwrap_or_default();
    let older = number(Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let space = getrlimit(Resource::As).current;
    // The old kind of group says "none" by a number near the largest there is.
    own.into_iter().chain(older).chain(space).filter(|bytes| *bytes < 1 << 60).min()
}

/// A group's limits are also those of all groups above it.
fn smallest(root: &Path, group: &str) -> Option<u64> {
    let mut folder: PathBuf = root.join(group.trim_start_matches('/'));
    let mut least: Option<u64> = None;
    while folder.starts_with(root) {
        let here = number(&folder.join("memory.max"));
        least = least.into_iter().chain(here).min();
        if !folder.pop() {
            break;
        }
    }
    least
}

/// `max` is no number, and no limit.
fn number(file: &Path) -> Option<u64> {
    read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_limit_is_the_smallest_above_it() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        assert_eq!(smallest(root.path(), "/a/b"), None);
        std::fs::write(deep.join("memory.max"), "max\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "5000\n").unwrap();
        assert_eq!(smallest(root.path(), "/a/b"), Some(5000));
        std::fs::write(deep.join("memory.max"), "400\n").unwrap();
        assert_eq!(smallest(root.path(), "/a/b"), Some(400));
    }
}
