//! How one process of serin follows another, from both sides.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serin_proxy::{Handle, Pace};
use tokio::task::JoinHandle;

use crate::handover::{Draining, Estate, Heir, Succession};
use crate::tick::Tick;

/// How often a process that ends tells what it has counted.
const TELL: Duration = Duration::from_millis(100);
/// How long an ended process's evidence is kept for judges that are late.
const LINGER: Duration = Duration::from_secs(5);
const FLAG: &str = "--hot-restart";

/// Where the program was when we started: by now another may stand there.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

pub fn remember_program() {
    match std::env::current_exe() {
        Ok(program) => drop(PROGRAM.set(program)),
        Err(cause) => tracing::debug!(%cause, "where this program is cannot be told"),
    }
}

/// Starts the same command again to take over from us. It finds us by itself.
pub fn begin() {
    let Some(program) = PROGRAM.get() else {
        return tracing::error!("where this program is cannot be told; start the successor by hand");
    };
    let mut arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if !arguments.iter().any(|argument| argument == FLAG) {
        arguments.push(FLAG.into());
    }
    match Command::new(program).args(arguments).stdin(Stdio::null()).spawn() {
        Ok(mut successor) => {
            tracing::info!(pid = successor.id(), "starting a successor");
            // Waited for, so that one that fails leaves no dead process behind.
            std::thread::spawn(move || match successor.wait() {
                Ok(status) => tracing::error!(%status, "the successor has ended"),
                Err(cause) => tracing::error!(%cause, "the successor cannot be waited for"),
            });
        }
        Err(cause) => tracing::error!(%cause, program = %program.display(), "cannot start a successor"),
    }
}

/// The tick has stopped; either it is the successor's from here on, or it may go on.
pub async fn bequeath(tick: &mut Tick, heir: Heir) -> io::Result<Draining> {
    let (legacy, reloads, lock) = tick.bequeath()?;
    let given = heir.bequeath(Estate { legacy, reloads, lock }).await;
    if given.is_err()
        && let Err(cause) = tick.take_back()
    {
        tracing::error!(%cause, "the journal cannot be taken back");
    }
    given
}

/// Serves to the end what is under way. Told counts are always whole: the last
/// come when every worker has ended, and whoever we have inherited from too.
pub async fn see_out(
    handle: &Handle,
    mut draining: Draining,
    timeout: Duration,
    following: Option<JoinHandle<()>>,
) {
    let own = handle.clone();
    draining.obey(move |split, weights| {
        let stands = own
            .evidence(|_, live, _| live == split)
            .iter()
            .any(|live| live.split == split && live.weights == *weights);
        if !stands && let Err(cause) = own.shift(split, weights) {
            tracing::debug!(split, %cause, "the successor has other splits");
        }
    });
    let mut ended = std::pin::pin!(async {
        handle.drain(timeout, Pace::Patient).await;
        if let Some(following) = following {
            // It only panics if its peer's words do; then there is no more to hear.
            let _ = following.await;
        }
    });
    loop {
        let is_over = tokio::time::timeout(TELL, &mut ended).await.is_ok();
        if let Err(cause) = draining.tell(handle.readings()).await {
            tracing::error!(%cause, "the successor no longer hears what we count");
            if !is_over {
                ended.await;
            }
            return;
        }
        if is_over {
            return;
        }
    }
}

/// The process before us ends from here on; its counts are ours. The task ends
/// when it has, or when we are alone.
pub fn proclaim(succession: Succession, handle: &Handle) -> Option<JoinHandle<()>> {
    match succession.proclaim() {
        Ok(inheriting) => {
            let (counted, weighed, late) = (handle.clone(), handle.clone(), handle.clone());
            let following = tokio::spawn(async move {
                let weights = move || weighed.weights();
                inheriting.follow(move |reading| counted.carry(reading), weights).await;
                tracing::info!("the process before this one has ended");
                tokio::spawn(async move {
                    tokio::time::sleep(LINGER).await;
                    late.close_evidence();
                });
            });
            Some(following)
        }
        Err(cause) => {
            tracing::warn!(%cause, "the process before this one has ended before its time");
            None
        }
    }
}
