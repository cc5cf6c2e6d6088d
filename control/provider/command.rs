//! A program on this machine: the number it prints, or its exit code. It is killed
//! when its time is over.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use super::Sample;
use crate::outside::provider::CommandValue;

pub async fn ask(
    arguments: &[String],
    value: CommandValue,
    query: &str,
    patience: Duration,
) -> Result<Sample, String> {
    let [program, arguments @ ..] = arguments else { return Err("there is no command".to_owned()) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    if !query.is_empty() {
        command.arg(query);
    }
    let ended = timeout(patience, command.output()).await;
    let output = ended
        .map_err(|_| format!("no end within {patience:?}"))?
        .map_err(|cause| format!("cannot run {program}: {cause}"))?;
    let Some(code) = output.status.code() else {
        return Err(format!("{program} was ended by a signal"));
    };
    if value == CommandValue::ExitCode {
        return Ok(Sample::Number(f64::from(code)));
    }
    let first = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().chars().take(200).collect::<String>();
    if code != 0 {
        return Err(format!("{program} ended with {code}: {}", first(&output.stderr)));
    }
    let text = first(&output.stdout);
    match (text.is_empty(), text.parse()) {
        (true, _) => Ok(Sample::Absent),
        (false, Ok(number)) => Ok(Sample::Number(number)),
        (false, Err(_)) => Ok(Sample::Said(Value::from(text))),
    }
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
}
