//! A call that is tried again, and the queue of one receiver.
//!
//! Tried again is what may pass by itself: no connection, no answer in time, 429,
//! and 5xx but for 501. Pauses double from one second to thirty, unless the
//! receiver says how long. A receiver that hangs delays nobody but itself.

use std::sync::Arc;
use std::time::Duration;

use hyper::header::RETRY_AFTER;
use tokio::sync::watch;
use tokio::time::Instant;

use super::call::{Answer, Call, Fault, call, status_text};
use super::queue::Queue;
use super::{Courier, Taken};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const ENDED: &str = "serin has ended before it was delivered";

/// Why it did not succeed, after so many attempts.
#[derive(Debug)]
pub struct Failure {
    pub attempts: u32,
    pub cause: String,
}

/// Calls until it is `taken`, refused, or tried often enough.
pub async fn deliver(asked: &Call, retries: u32, taken: Taken) -> Result<Answer, Failure> {
    attempts(asked, retries, taken).await.map(|(answer, _)| answer)
}

/// The same, with how many calls that took.
pub async fn attempts(asked: &Call, retries: u32, taken: Taken) -> Result<(Answer, u32), Failure> {
    let mut pause = FIRST_PAUSE;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let outcome = call(asked).await;
        let (cause, wait) = match outcome {
            Ok(answer) if taken(&answer) => return Ok((answer, attempts)),
            Ok(answer) if !is_passing(answer.status) => {
                return Err(Failure { attempts, cause: refused(&answer) });
            }
            Ok(answer) => (refused(&answer), asked_to_wait(&answer)),
            Err(Fault::Malformed(cause)) => return Err(Failure { attempts, cause }),
            Err(fault) => (fault.to_string(), None),
        };
        if attempts > retries {
            return Err(Failure { attempts, cause });
        }
        tokio::time::sleep(wait.unwrap_or(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn is_passing(status: u16) -> bool {
    status == 429 || (status >= 500 && status != 501)
}

fn refused(answer: &Answer) -> String {
    let gist = answer.gist();
    let status = status_text(answer.status);
    if gist.is_empty() { format!("answered {status}") } else { format!("answered {status}: {gist}") }
}

fn asked_to_wait(answer: &Answer) -> Option<Duration> {
    if !matches!(answer.status, 429 | 503) {
        return None;
    }
    let seconds: u64 = answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

pub(super) async fn run(courier: Courier, queue: Arc<Queue>, mut ends: watch::Receiver<bool>) {
    while let Some(letter) = queue.next().await {
        let written = (letter.write)();
        let begun = Instant::now();
        let outcome = match &written {
            Ok(call) => tokio::select! {
                biased;
                outcome = attempts(call, letter.retries, letter.taken) => outcome,
                Ok(_) = ends.wait_for(|ends| *ends) => Err(Failure { attempts: 0, cause: ENDED.to_owned() }),
            },
            Err(cause) => Err(Failure { attempts: 0, cause: cause.clone() }),
        };
        match outcome {
            Ok((_, attempts)) => courier.delivered(&letter.lane, attempts, begun.elapsed()),
            Err(Failure { attempts, cause }) => courier.given_up(letter, attempts, cause, begun.elapsed()),
        }
    }
}
