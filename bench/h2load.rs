//! h2load as the load over HTTP/2: an independent client, whose own account of what it got is checked.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;

use crate::h2;
use crate::h2::Call;
use crate::workplace::Workplace;

/// Connections, and requests under way on each.
pub const CONNECTIONS: usize = 8;
pub const STREAMS: usize = 10;

pub enum Amount {
    Seconds(f64),
    Requests(u64),
}

pub fn command(target: SocketAddr, call: Call, amount: &Amount, workplace: &Workplace) -> Result<Command> {
    let mut command = Command::new("h2load");
    command.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-m", &STREAMS.to_string()]);
    match amount {
        Amount::Seconds(seconds) => command.args(["-D", &format!("{:.0}ms", seconds * 1e3)]),
        Amount::Requests(count) => command.args(["-n", &count.to_string()]),
    };
    command.args(["-H", "user-agent: serin-bench/1", "-H", "cookie: sid=3f9c2a71d0b84e55; theme=dark"]);
    match call {
        Call::Get(_) => {
            command.args(["-H", "accept: application/json", "-H", "accept-encoding: gzip, br"]);
            command.arg(format!("http://{target}{}", h2::PATH));
        }
        Call::Grpc(_) | Call::Endless => {
            let path = workplace.path.join("question");
            std::fs::write(&path, h2::question())?;
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]).arg(path);
            command.arg(format!("http://{target}{}", h2::METHOD));
        }
    }
    workplace.log("h2load", &mut command)?;
    Ok(command)
}

/// What h2load got.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub succeeded: u64,
    pub errors: u64,
}

pub fn read(text: &str, call: Call) -> Result<Told> {
    let number = |line: &str, word: &str| -> Option<u64> {
        let line = text.lines().find(|candidate| candidate.starts_with(line))?;
        line.split([':', ','])
            .find(|part| part.trim().ends_with(word))?
            .trim()
            .split(' ')
            .next()?
            .parse()
            .ok()
    };
    let read = |line: &str, word: &str| {
        number(line, word).with_context(|| format!("h2load told no number of {word}: {text}"))
    };
    let (started, succeeded) = (read("requests:", "started")?, read("requests:", "succeeded")?);
    let (failed, good) = (read("requests:", "failed")?, read("status codes:", "2xx")?);
    let data = text.lines().find(|line| line.starts_with("traffic:")).and_then(|line| {
        let (_, rest) = line.rsplit_once('(')?;
        rest.split(')').next()?.parse::<u64>().ok()
    });
    let data = data.context("h2load told no bytes of data")?;
    let bytes = call.answer_bytes() as u64;
    ensure!(
        (succeeded * bytes..=started * bytes).contains(&data),
        "{succeeded} answers of {bytes} bytes were to come and {data} bytes came"
    );
    // Answers whose status is not 2xx count as succeeded for h2load.
    Ok(Told { succeeded, errors: failed + succeeded.saturating_sub(good) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "finished in 2.00s, 50.00 req/s, 1MB/s
requests: 100 total, 110 started, 100 done, 99 succeeded, 1 failed, 1 errored, 0 timeout
status codes: 98 2xx, 0 3xx, 0 4xx, 1 5xx
traffic: 52.00KB (53248) total, 1.00KB (1024) headers (space savings 90.00%), 50.00KB (51200) data
";

    #[test]
    fn failures_and_wrong_statuses_are_errors_and_missing_bytes_refuse_the_figure() {
        assert_eq!(
            read(TEXT, Call::Get(512)).expect("all bytes are there"),
            Told { succeeded: 99, errors: 2 }
        );
        assert!(read(TEXT, Call::Get(1024)).is_err(), "half of the bytes are missing");
        assert!(read(TEXT, Call::Get(100)).is_err(), "far more bytes than answers");
        assert!(read("unable to connect", Call::Get(512)).is_err());
    }
}
