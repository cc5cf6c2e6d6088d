//! What systemd gives us and hears from us. Without it all of this is nothing.

use std::io;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use serin_proxy::Inherited;

use crate::tick::ask::{Ask, Desk};

/// The admin API's socket is told from the listeners' by this name.
pub const ADMIN: &str = "admin";

/// Sockets of the units that started us. One is a listener's if it has its
/// address or, by `FileDescriptorName=`, its name.
pub fn sockets() -> io::Result<Vec<Inherited>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut listening = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..listening.len() {
        let name = names.next().unwrap_or_default().to_owned();
        if let Some(socket) = listening.take_tcp_listener(index)? {
            sockets.push(Inherited { name, asked: None, socket });
        }
    }
    Ok(sockets)
}

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(cause) => tracing::warn!(%cause, "systemd is not told of the reload"),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is the service now; systemd hears this only from the old one.
pub fn main_pid(pid: u32) {
    tell(&[NotifyState::MainPid(pid)]);
}

/// Says that we live as often as systemd wants to hear it, and only while the
/// tick, which everything depends on, answers.
pub async fn keep_watch(desk: Desk) {
    // Of a predecessor's watchdog only the process id is stale.
    let period = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
    let Some(period) = period.map(Duration::from_micros).filter(|period| !period.is_zero()) else { return };
    let mut pace = tokio::time::interval(period / 2);
    loop {
        pace.tick().await;
        if desk.ask(|reply| Ask::Splits { reply }).await.is_ok() {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(cause) = sd_notify::notify(state) {
        tracing::warn!(%cause, "systemd does not hear us");
    }
}
