//! A real program that cannot be given port 0 and asked which it got: it is given ports
//! that were free a moment ago, and started again where one of them is lost.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::client::{Ask, Conn};
use super::eventually;

/// Ends by SIGTERM with whoever holds it, and its folder with it.
pub struct Program {
    child: Child,
    folder: TempDir,
}

impl Program {
    /// `prepare` fills the folder and says how it is called and where it will be
    /// found; `is_up` looks there.
    pub fn start<At>(
        name: &str,
        prepare: impl Fn(&Path) -> (Command, At),
        is_up: impl Fn(&At) -> bool,
    ) -> (Program, At) {
        for _ in 0..10 {
            let folder = tempfile::tempdir().expect("a temporary folder can be made");
            let (mut command, at) = prepare(folder.path());
            let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let child = command.spawn().unwrap_or_else(|cause| panic!("{name} cannot be run: {cause}"));
            let mut program = Program { child, folder };
            let mut up = false;
            eventually(&format!("{name} is up or gone"), || {
                up = is_up(&at);
                up || program.is_gone()
            });
            if up && !program.is_gone() {
                return (program, at);
            }
        }
        panic!("{name} did not start in ten attempts");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn is_gone(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound")
}

/// Does it answer this path so?
pub fn answers(address: SocketAddr, path: &str, status: u16) -> bool {
    let reply = Conn::try_open(address).and_then(|mut conn| conn.try_ask(&Ask::get(path)));
    reply.is_ok_and(|reply| reply.status == status)
}
