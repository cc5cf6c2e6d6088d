//! The program under test: the built binary, its configuration file in a folder
//! of its own, and its admin door.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::client::{Ask, Conn, Reply, once};
use super::metrics::Scrape;
use super::{PATIENCE, eventually};

/// The binary that cargo built for this test run.
pub const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// A running serin. It is killed when dropped; what it said on stderr is shown
/// when the test has failed.
pub struct App {
    pub admin: SocketAddr,
    listeners: Vec<(String, SocketAddr)>,
    child: Child,
    folder: TempDir,
}

impl App {
    /// Starts serin on this configuration and waits until it says where it listens.
    pub fn start(yaml: &str) -> App {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("serin.yaml"), yaml).expect("it can be written to");
        let (child, admin, listeners) = spawn(&folder, &[]).unwrap_or_else(|said| panic!("{said}"));
        App { admin, listeners, child, folder }
    }

    /// As `start`, with so many descriptors and no more.
    pub fn start_limited(yaml: &str, descriptors: u64) -> App {
        let ulimit = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        App::start_by(yaml, |_| {
            let mut command = Command::new("sh");
            command.args(["-c", &ulimit, SERIN]);
            command
        })
    }

    /// As `start`, by a command that is made when the folder is there and that
    /// passes its arguments on to serin.
    pub fn start_by(yaml: &str, command: impl FnOnce(&std::path::Path) -> Command) -> App {
        App::try_start_by(yaml, command).unwrap_or_else(|said| panic!("{said}"))
    }

    pub fn try_start_by(
        yaml: &str,
        command: impl FnOnce(&std::path::Path) -> Command,
    ) -> Result<App, String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("serin.yaml"), yaml).expect("it can be written to");
        let command = command(folder.path());
        let (child, admin, listeners) = launch(command, &folder, &[])?;
        Ok(App { admin, listeners, child, folder })
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", name, &pid]).status().expect("kill is everywhere");
        assert!(kill.success(), "signal {name}");
    }

    /// Waits for its end; answers with the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let mut code = None;
        eventually("serin ends", || match self.child.try_wait() {
            Ok(Some(status)) => {
                code = status.code();
                true
            }
            _ => false,
        });
        code
    }

    /// Starts it again on the same folder: configuration, state and all.
    pub fn restart(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.kill9();
        }
        let started = spawn(&self.folder, &[]);
        (self.child, self.admin, self.listeners) = started.unwrap_or_else(|said| panic!("{said}"));
    }

    /// Starts another on the same folder that takes over. Answers with the one
    /// before it, which has to end by itself.
    pub fn succeed(&mut self) -> Child {
        self.try_succeed().unwrap_or_else(|said| panic!("{said}"))
    }

    /// Where the successor does not start, this stays what it was.
    pub fn try_succeed(&mut self) -> Result<Child, String> {
        let (child, admin, listeners) = spawn(&self.folder, &["--hot-restart"])?;
        (self.admin, self.listeners) = (admin, listeners);
        Ok(std::mem::replace(&mut self.child, child))
    }

    /// The listener of the shorthand, or the only one.
    pub fn address(&self) -> SocketAddr {
        self.listeners.first().expect("a listener was announced").1
    }

    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(key, _)| key == name);
        found.unwrap_or_else(|| panic!("no listener {name:?} in {:?}", self.listeners)).1
    }

    /// A new connection to the proxy.
    pub fn conn(&self) -> Conn {
        Conn::open(self.address())
    }

    /// Where a listener is now, whatever was announced at the start.
    pub fn listens(&self, name: &str) -> Option<SocketAddr> {
        let info = self.get_json("/server_info");
        info["listeners"][name].as_str().map(|text| text.parse().expect("an address"))
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("serin.yaml")
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Replaces the file as editors do, whole and at once.
    pub fn write_config(&self, yaml: &str) {
        let new = self.folder.path().join("serin.yaml.new");
        std::fs::write(&new, yaml).expect("the folder is ours");
        std::fs::rename(&new, self.config()).expect("the folder is ours");
    }

    /// Writes the file and asks for a reload.
    pub fn reload(&self, yaml: &str) -> Reply {
        self.write_config(yaml);
        self.post("/reload")
    }

    pub fn admin(&self, ask: &Ask) -> Reply {
        once(self.admin, &ask.clone().header("connection", "close"))
    }

    pub fn get(&self, path: &str) -> Reply {
        self.admin(&Ask::get(path))
    }

    pub fn get_json(&self, path: &str) -> Value {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        reply.json()
    }

    pub fn post(&self, path: &str) -> Reply {
        self.admin(&Ask::post(path, ""))
    }

    /// A command to a rollout that must be taken.
    pub fn command(&self, rollout: &str, verb: &str) {
        let reply = self.post(&format!("/rollouts/{rollout}/{verb}"));
        assert!((200..300).contains(&reply.status), "{verb}: {} {}", reply.status, reply.text());
    }

    pub fn try_weights(&self, split: &str, weights: &[(&str, f64)]) -> Reply {
        let body: serde_json::Map<_, _> =
            weights.iter().map(|(name, percent)| ((*name).to_owned(), Value::from(*percent))).collect();
        let body = Value::Object(body).to_string();
        let ask = Ask::new("PUT", &format!("/splits/{split}/weights")).body(body);
        self.admin(&ask.header("content-type", "application/json"))
    }

    pub fn put_weights(&self, split: &str, weights: &[(&str, f64)]) {
        let reply = self.try_weights(split, weights);
        assert!((200..300).contains(&reply.status), "PUT weights: {} {}", reply.status, reply.text());
    }

    pub fn rollout(&self, name: &str) -> Value {
        self.get_json(&format!("/rollouts/{name}"))
    }

    pub fn phase(&self, name: &str) -> String {
        self.rollout(name)["phase"].as_str().expect("a status has a phase").to_owned()
    }

    pub fn await_phase(&self, name: &str, phase: &str) -> Value {
        super::eventually_some(&format!("rollout {name} is {phase}"), || {
            let status = self.rollout(name);
            (status["phase"] == phase).then_some(status)
        })
    }

    /// Canary's share of a rollout's split in percent, as in force on the workers.
    pub fn canary_percent(&self, rollout: &str) -> f64 {
        let status = self.rollout(rollout);
        let canary = status["canary"].as_str().expect("a status names its canary");
        status["weights"][canary].as_f64().unwrap_or_else(|| panic!("no weight of the canary: {status}"))
    }

    pub fn scrape(&self) -> Scrape {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200, "{}", reply.text());
        Scrape::parse(&reply.text())
    }

    /// The sum of a metric's samples that carry all of these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.scrape().sum(name, labels)
    }

    /// `serin_requests_total` of one version, whole number.
    pub fn requests(&self, labels: &[(&str, &str)]) -> u64 {
        self.metric("serin_requests_total", labels) as u64
    }

    /// Runs a client command of the CLI against this instance.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(SERIN);
        command.args(arguments).env("SERIN_ADMIN", self.admin.to_string());
        command.output().expect("the binary can be run")
    }

    /// What it has said on stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the last that serin said ---");
            for line in &lines[lines.len().saturating_sub(40)..] {
                eprintln!("{line}");
            }
        }
    }
}

type Started = (Child, SocketAddr, Vec<(String, SocketAddr)>);

/// Once it has announced itself, or what it said instead.
fn spawn(folder: &TempDir, more: &[&str]) -> Result<Started, String> {
    launch(Command::new(SERIN), folder, more)
}

fn launch(mut command: Command, folder: &TempDir, more: &[&str]) -> Result<Started, String> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join("stderr"));
    let mut child = command
        .args(["run", "-c", "serin.yaml", "--announce"])
        .args(more)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.expect("the folder is ours"))
        .spawn()
        .expect("the binary can be run");
    let stdout = child.stdout.take().expect("it is piped");
    let (sender, line) = mpsc::channel();
    std::thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let _ = stdout.read_line(&mut line);
        let _ = sender.send(line);
        // Read on, so that a talkative program never blocks on its output.
        let _ = stdout.read_to_end(&mut Vec::new());
    });
    let line = line.recv_timeout(PATIENCE).unwrap_or_default();
    let announced: Value = match serde_json::from_str(&line) {
        Ok(announced) => announced,
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
            return Err(format!("serin announced {line:?} ({error}); it said:\n{log}"));
        }
    };
    let address = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).expect("an address");
    let listeners = announced["listeners"].as_object().expect("listeners by name");
    let listeners = listeners.iter().map(|(name, value)| (name.clone(), address(value))).collect();
    Ok((child, address(&announced["admin"]), listeners))
}

/// Runs the CLI without an instance.
pub fn serin(arguments: &[&str]) -> Output {
    Command::new(SERIN).args(arguments).output().expect("the binary can be run")
}

/// Listens on free ports, with so many workers.
pub fn head(workers: usize) -> String {
    format!("listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nworkers: {workers}\n")
}

/// Two versions of one service `web`; `rest` is indented under it.
pub fn pair(primary: SocketAddr, canary: SocketAddr, rest: &str) -> String {
    let mut yaml = head(2);
    yaml += &format!("services:\n  web:\n    primary: {primary}\n    canary: {canary}\n");
    for line in rest.lines() {
        yaml += &format!("    {line}\n");
    }
    yaml
}

/// One version, all traffic on it.
pub fn single(primary: SocketAddr) -> String {
    head(2) + &format!("services:\n  web:\n    primary: {primary}\n")
}

/// Waits until no request is under way any more.
pub fn quiet(app: &App) {
    eventually("no request is under way", || app.metric("serin_requests_in_flight", &[]) == 0.0);
}

/// For a fault that must not take long: how long it took.
pub fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let answer = act();
    (answer, start.elapsed())
}
