//! As a service: what systemd hears, the sockets that it opens, and how little
//! serin needs to be allowed.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use crate::harness::app::{SERIN, pair, single};
use crate::harness::{App, Ask, Conn, Origin, eventually, eventually_some, require};

/// What came so far, one assignment a line.
fn heard(socket: &UnixDatagram) -> Vec<String> {
    let (mut lines, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count) = socket.recv(&mut buffer) {
        lines.extend(String::from_utf8_lossy(&buffer[..count]).lines().map(str::to_owned));
    }
    lines
}

#[test]
fn systemd_hears_of_readiness_reloads_successors_life_and_the_end() {
    let origin = Origin::start("a");
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a short path");
    socket.set_nonblocking(true).expect("sockets can be made so");
    let mut app = App::start_by(&single(origin.address), |_| {
        let mut command = Command::new(SERIN);
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
        command
    });
    let mut lines = Vec::new();
    let mut wait = |what: &str, wanted: &dyn Fn(&[String]) -> bool| {
        eventually(what, || {
            lines.extend(heard(&socket));
            wanted(&lines)
        });
        std::mem::take(&mut lines)
    };
    let has = |lines: &[String], word: &str| lines.iter().any(|line| line == word);
    wait("it is ready", &|lines| has(lines, "READY=1"));
    wait("it lives", &|lines| lines.iter().filter(|line| *line == "WATCHDOG=1").count() > 2);
    app.signal("HUP");
    let reload = wait("it has reloaded", &|lines| has(lines, "READY=1"));
    let began = reload.iter().position(|line| line == "RELOADING=1").expect("it says that it begins");
    assert!(reload[began + 1].starts_with("MONOTONIC_USEC="), "{reload:?}");
    app.signal("USR2");
    let handed =
        wait("another has taken over", &|lines| lines.iter().any(|line| line.starts_with("MAINPID=")));
    let pid = handed.iter().find_map(|line| line.strip_prefix("MAINPID=")).expect("it was waited for");
    assert_eq!(app.ended(), Some(0));
    assert_eq!(app.get_json("/server_info")["pid"].to_string(), pid);
    wait("the new one lives", &|lines| has(lines, "WATCHDOG=1"));
    assert!(Command::new("kill").arg(pid).status().is_ok_and(|status| status.success()));
    wait("it ends", &|lines| has(lines, "STOPPING=1"));
}

#[test]
fn sockets_that_systemd_opened_are_served() {
    let Some(activate) = require("systemd-socket-activate") else { return };
    let origin = Origin::start("a");
    // Given away by the system just now; who takes it next is the one below.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address: SocketAddr = free().expect("a free port");
    let waker = std::thread::spawn(move || {
        // It is started by the first who knocks, and that one is answered too.
        eventually_some("somebody listens", || Conn::try_open(address).ok()).get("/")
    });
    // By its name, as the address in the file is another.
    let app = App::start_by(&single(origin.address), |_| {
        let mut command = Command::new(activate);
        command.args(["-l", &address.to_string(), "--fdname=default", SERIN]);
        command
    });
    assert_eq!(app.address(), address);
    assert_eq!(waker.join().expect("no panic").origin(), "a");
    for _ in 0..40 {
        assert_eq!(app.conn().get("/").status, 200);
    }
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let Some(analyze) = require("systemd-analyze") else { return };
    let unit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/serin.service"));
    let unit = unit.expect("it is there").replace("/usr/local/bin/serin", SERIN);
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    let path = place.path().join("serin.service");
    std::fs::write(&path, unit).expect("the folder is ours");
    let verified = Command::new(analyze).args(["verify", "--man=no"]).arg(&path).output().expect("it runs");
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && !said.contains("serin.service"), "{said}");
}

/// Somebody without rights, in a folder that is not theirs.
fn as_nobody(folder: &std::path::Path) -> Command {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).expect("the folder is ours");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", SERIN]);
    command
}

fn may_become_nobody() -> bool {
    let tried = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", SERIN, "--version"])
        .output();
    let may = require("setpriv").is_some() && tried.is_ok_and(|tried| tried.status.success());
    if !may {
        eprintln!("SKIPPED: nobody cannot run serin here");
    }
    may
}

#[test]
fn nobody_may_run_it_where_nothing_can_be_written() {
    if !may_become_nobody() {
        return;
    }
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let app = App::start_by(&pair(primary.address, canary.address, ""), as_nobody);
    assert_eq!(app.conn().get("/").origin(), "primary");
    assert_eq!(app.metric("serin_journal_writable", &[]), 0.0);
    assert!(app.log().contains("there is no state directory"), "{}", app.log());
    let refused = app.try_weights("web", &[("primary", 50.0), ("canary", 50.0)]);
    assert_eq!(refused.status, 503, "{}", refused.text());
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).expect("it runs");
    assert!(status.contains("Uid:\t65534\t65534"), "{status}");
}

#[test]
fn a_rollout_needs_a_place_to_write_and_says_so() {
    if !may_become_nobody() {
        return;
    }
    let (primary, canary) = (Origin::start("primary"), Origin::start("canary"));
    let rollout = "rollouts:\n  web:\n    steps: [{weight: 20, for: 60s}]\n";
    let yaml = pair(primary.address, canary.address, "") + rollout;
    let said = App::try_start_by(&yaml, as_nobody).err().expect("it must not forget what it decides");
    assert!(said.contains("cannot write to the state directory"), "{said}");
    let place = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).expect("it is ours");
    let app = App::start_by(&format!("state: {}\n{yaml}", place.path().display()), as_nobody);
    app.command("web", "start");
    app.await_phase("web", "running");
    assert_eq!(app.conn().ask(&Ask::get("/")).status, 200);
    drop(app);
    assert!(place.path().join("journal.jsonl").exists());
}
