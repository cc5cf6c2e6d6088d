//! The real binary, run as anyone would run it: its own file, its own process,
//! its own sockets. It and its directory go when this value goes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

/// How long serin may take to say that it is ready.
const READY: Duration = Duration::from_secs(10);

pub struct Process {
    pub admin: SocketAddr,
    pub listener: SocketAddr,
    // The child goes before its directory does.
    child: Running,
    directory: Directory,
}

struct Running(Child);

/// The one line that `--announce` prints.
#[derive(Deserialize)]
struct Announcement {
    admin: SocketAddr,
    listeners: std::collections::BTreeMap<String, SocketAddr>,
}

impl Process {
    pub fn start(config: &str) -> anyhow::Result<Process> {
        let directory = Directory::create()?;
        let file = directory.0.join("serin.yaml");
        std::fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let log = std::fs::File::create(directory.log()).context("cannot create the log file")?;
        let program = std::env::current_exe().context("cannot name the running program")?;
        let mut child = Command::new(&program)
            .args(["run", "--announce", "-c"])
            .arg(&file)
            // Its last words are shown; a backtrace would push out the message.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map(Running)
            .with_context(|| format!("cannot run {}", program.display()))?;
        let stdout = child.0.stdout.take().context("serin's output is not connected")?;
        let line = first_line(stdout)?;
        let Ok(ready) = serde_json::from_str::<Announcement>(&line) else {
            bail!("serin did not come up{}", directory.last_words());
        };
        let listener = ready.listeners.values().next();
        let listener = *listener.context("serin came up without a listener")?;
        Ok(Process { admin: ready.admin, listener, child, directory })
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.0.join("serin.yaml")
    }

    /// `Some` with the reason when serin has ended by itself.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.0.try_wait().ok().flatten()?;
        Some(format!("serin ended unasked ({status}){}", self.directory.last_words()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads on after the first line, so that the pipe never fills up.
fn first_line(stdout: ChildStdout) -> anyhow::Result<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new().name("announcement".to_owned()).spawn(move || {
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        let _ = reader.read_line(&mut line);
        let _ = sender.send(line);
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    })?;
    receiver.recv_timeout(READY).with_context(|| format!("serin was not ready within {READY:?}"))
}

/// A directory for this run alone, removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn create() -> anyhow::Result<Directory> {
        let name = format!("serin-demo-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let path = std::env::temp_dir().join(name);
        // Fails where the name is taken, so nobody can have prepared it.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Directory(path))
    }

    fn log(&self) -> PathBuf {
        self.0.join("serin.log")
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(8)..];
        if tail.is_empty() { String::new() } else { format!("; its last words:\n{}", tail.join("\n")) }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
