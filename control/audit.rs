//! Who changed what by the admin API: a line of JSON for each call that may change
//! something, written before the caller is answered.
//!
//! The file is bounded: past a size it becomes the first of the older ones, of which
//! a few are kept. A line names a token by its print and never holds it.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::clock::Moment;

const FILE: &str = "audit.jsonl";
const LIMIT: u64 = 4 << 20;
/// Older files, `audit.1.jsonl` the newest of them.
const OLDER: usize = 4;

#[derive(Clone, Debug, Serialize)]
pub struct Line {
    pub at: Moment,
    /// Who the caller says to be, unverified: a token's print, a name, a certificate;
    /// or nobody.
    pub self_declared: String,
    pub from: String,
    pub agent: String,
    pub method: String,
    pub path: String,
    /// What was sent, as far as it is short.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    pub status: u16,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    /// None where nothing can be kept.
    folder: Option<PathBuf>,
    /// One at a time.
    writing: Arc<Mutex<()>>,
}

impl Audit {
    pub fn new(folder: Option<&Path>) -> Audit {
        Audit { folder: folder.map(Path::to_owned), writing: Arc::default() }
    }

    /// Blocks until it is written. What cannot be written is at least logged.
    pub fn write(&self, line: &Line) {
        let Line { self_declared, from, method, path, status, .. } = line;
        tracing::info!(self_declared, from, method, path, status, "admin call");
        let Some(folder) = &self.folder else { return };
        let _one = self.writing.lock().expect("no holder panics");
        if let Err(cause) = append(folder, line, LIMIT) {
            tracing::error!(%cause, "the audit line is not written");
        }
    }
}

fn append(folder: &Path, line: &Line, limit: u64) -> std::io::Result<()> {
    let path = folder.join(FILE);
    if std::fs::metadata(&path).is_ok_and(|file| file.len() >= limit) {
        rotate(folder)?;
    }
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(&text)
}

fn rotate(folder: &Path) -> std::io::Result<()> {
    let older = |number: usize| folder.join(format!("audit.{number}.jsonl"));
    for number in (1..OLDER).rev() {
        if older(number).exists() {
            std::fs::rename(older(number), older(number + 1))?;
        }
    }
    std::fs::rename(folder.join(FILE), older(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_and_the_files_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        for number in 0..60 {
            let line = Line {
                at: Moment(number),
                self_declared: "nobody".into(),
                from: "127.0.0.1:1".into(),
                agent: String::new(),
                method: "POST".into(),
                path: "/reload".into(),
                body: String::new(),
                status: 200,
            };
            append(folder.path(), &line, 300).unwrap();
        }
        let mut names: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(
            names,
            ["audit.1.jsonl", "audit.2.jsonl", "audit.3.jsonl", "audit.4.jsonl", "audit.jsonl"]
        );
        let newest = std::fs::read_to_string(folder.path().join("audit.jsonl")).unwrap();
        assert!(newest.lines().last().unwrap().contains("\"at\":59"), "{newest}");
        let before = std::fs::read_to_string(folder.path().join("audit.1.jsonl")).unwrap();
        assert!(before.len() < 600, "no file grows past its limit by more than a line");
    }
}
