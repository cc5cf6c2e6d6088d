//! A program on this machine: the number it prints, or its exit code. It is killed
//! when its time is over, with all that it has started. Of what it prints only so
//! much is kept.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, sink};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Sample;
use crate::outside::provider::CommandValue;

/// Of each of its two outputs; a number is far shorter.
const MOST: u64 = 64 << 10;

pub async fn ask(
    arguments: &[String],
    value: CommandValue,
    query: &str,
    patience: Duration,
) -> Result<Sample, String> {
    let [program, arguments @ ..] = arguments else { return Err("there is no command".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    if !query.is_empty() {
        command.arg(query);
    }
    let running = Running::of(command.spawn().map_err(|cause| format!("cannot run {program}: {cause}"))?);
    let ended = timeout(patience, running.end()).await;
    let Ended { status, said, complained } = ended
        .map_err(|_| format!("no end within {patience:?}"))?
        .map_err(|cause| format!("cannot run {program}: {cause}"))?;
    let Some(code) = status.code() else {
        return Err(format!("{program} was ended by a signal"));
    };
    if value == CommandValue::ExitCode {
        return Ok(Sample::Number(f64::from(code)));
    }
    let first = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().chars().take(200).collect::<String>();
    if code != 0 {
        return Err(format!("{program} ended with {code}: {}", first(&complained)));
    }
    if said.len() as u64 == MOST {
        return Err(format!("{program} printed {} KiB or more, and not a number", MOST >> 10));
    }
    let text = first(&said);
    match (text.is_empty(), text.parse()) {
        (true, _) => Ok(Sample::Absent),
        (false, Ok(number)) => Ok(Sample::Number(number)),
        (false, Err(_)) => Ok(Sample::Said(Value::from(text))),
    }
}

/// A program and all that it has started: one group, of which nothing is left when
/// this is dropped before the end.
struct Running {
    child: Child,
    group: Option<Pid>,
}

struct Ended {
    status: ExitStatus,
    said: Vec<u8>,
    complained: Vec<u8>,
}

impl Running {
    fn of(child: Child) -> Running {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Running { child, group: id.and_then(Pid::from_raw) }
    }

    /// Both outputs end before the program is waited for: until then its number is
    /// its own, and the group of that number nobody else's.
    async fn end(mut self) -> std::io::Result<Ended> {
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        let (said, complained) = tokio::join!(beginning(out), beginning(err));
        let (said, complained) = (said?, complained?);
        let status = self.child.wait().await?;
        self.group = None;
        Ok(Ended { status, said, complained })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself just now is as good.
        if let Some(group) = self.group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What comes after it is read and forgotten, so that nobody waits to be read.
async fn beginning(output: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let Some(mut output) = output else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    (&mut output).take(MOST).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut output, &mut sink()).await?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, value: CommandValue, patience: u64) -> Result<Sample, String> {
        let arguments = ["sh", "-c", script, "sh"].map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(ask(&arguments, value, "0.5", Duration::from_millis(patience)))
    }

    #[test]
    fn a_command_says_a_number_nothing_or_something_else_or_fails() {
        use CommandValue::{ExitCode, Output};
        assert_eq!(run("echo $1", Output, 10_000), Ok(Sample::Number(0.5)), "the query is its argument");
        assert!(matches!(run("echo nan", Output, 10_000), Ok(Sample::Number(value)) if value.is_nan()));
        assert_eq!(run("true", Output, 10_000), Ok(Sample::Absent));
        assert_eq!(run("echo up", Output, 10_000), Ok(Sample::Said(Value::from("up"))));
        assert_eq!(run("echo no >&2; exit 3", Output, 10_000), Err("sh ended with 3: no".to_owned()));
        assert_eq!(run("exit 3", ExitCode, 10_000), Ok(Sample::Number(3.0)));
        assert_eq!(run("exec sleep 60", Output, 50), Err("no end within 50ms".to_owned()));
        assert!(run("kill -9 $$", ExitCode, 10_000).is_err());
    }

    #[test]
    fn what_a_command_prints_without_end_is_not_kept() {
        use CommandValue::{ExitCode, Output};
        let before = peak();
        assert_eq!(run("exec yes", ExitCode, 1_000), Err("no end within 1s".to_owned()));
        assert_eq!(run("exec yes >&2", Output, 1_000), Err("no end within 1s".to_owned()));
        let more = peak() - before;
        assert!(more < 200 << 10, "{more} KiB were held");
        let long = "yes | head -c 70000; yes | head -c 70000 >&2";
        assert_eq!(run(long, Output, 10_000), Err("sh printed 64 KiB or more, and not a number".to_owned()));
        assert_eq!(run(long, ExitCode, 10_000), Ok(Sample::Number(0.0)));
    }

    /// The most memory that this process ever held, in KiB.
    fn peak() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn with_a_command_all_that_it_has_started_ends() {
        let is_there = || {
            let all = std::fs::read_dir("/proc").unwrap().flatten();
            let mut lines = all.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
            lines.any(|line| line == b"sleep\098.7654\0")
        };
        let ended = run("sleep 98.7654 | cat", CommandValue::Output, 300);
        assert_eq!(ended, Err("no end within 300ms".to_owned()));
        let mut looks = 0..200;
        while is_there() && looks.next().is_some() {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!is_there(), "the pipe's first end is an orphan");
    }
}
