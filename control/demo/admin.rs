//! A client of serin's admin API, as narrow as the demo needs it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::clock::Moment;
use crate::rollout::Event;
use crate::rollout::Phase;

/// An admin call that takes longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// Events not yet looked at; the story looks ten times a second.
const EVENTS_WAITING: usize = 256;

/// The part of a rollout's status that is shown and judged by.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    pub phase: Phase,
    pub step: usize,
    pub step_progress: f64,
    pub canary_parts: u32,
    pub since: Moment,
    pub sentence: String,
    pub rollback_meter: f64,
    #[serde(default)]
    pub versions: BTreeMap<String, Figures>,
}

/// Requests that ended and failures among them, cumulative, as serin counts
/// them: a failure that the primary made good is a failure of the canary here.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Figures {
    pub requests: u64,
    pub failures: u64,
}

/// A fact from the event stream.
#[derive(Clone, Debug, Deserialize)]
pub struct Told {
    #[serde(flatten)]
    pub event: Event,
    /// From the event's moment until its weights held on every worker.
    pub in_force_us: Option<u64>,
}

impl Told {
    /// When the weights that this speaks of held everywhere.
    pub fn in_force(&self) -> Moment {
        self.event.at.after(Duration::from_millis(self.in_force_us.unwrap_or(0).div_ceil(1000)))
    }
}

#[derive(Clone, Copy)]
pub struct Admin {
    pub address: SocketAddr,
}

impl Admin {
    pub async fn status(&self, rollout: &str) -> anyhow::Result<Status> {
        let (code, body) = self.call(Method::GET, &format!("/rollouts/{rollout}")).await?;
        if code != StatusCode::OK {
            bail!("serin answered {code} to a question for its status: {}", text(&body));
        }
        serde_json::from_slice(&body).context("serin's status is not what the demo knows")
    }

    /// `start`, `retry` and the like.
    pub async fn command(&self, rollout: &str, command: &str) -> anyhow::Result<()> {
        let (code, body) = self.call(Method::POST, &format!("/rollouts/{rollout}/{command}")).await?;
        if !code.is_success() {
            bail!("serin refused to {command} ({code}): {}", text(&body));
        }
        Ok(())
    }

    /// Every event of every rollout from now on.
    pub async fn events(&self) -> anyhow::Result<mpsc::Receiver<Told>> {
        let response = self.request(Method::GET, "/events").await?;
        if response.status() != StatusCode::OK {
            bail!("serin answered {} to a question for its events", response.status());
        }
        let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
        tokio::spawn(async move {
            let mut body = response.into_body();
            let mut lines = Lines::default();
            while let Some(Ok(frame)) = body.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                for told in lines.feed(&data) {
                    if sender.send(told).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(receiver)
    }

    async fn call(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let exchange = async {
            let response = self.request(method, path).await?;
            let code = response.status();
            Ok((code, response.into_body().collect().await?.to_bytes()))
        };
        tokio::time::timeout(PATIENCE, exchange)
            .await
            .with_context(|| format!("serin's admin API said nothing to {path} in {PATIENCE:?}"))?
    }

    /// On a connection of its own: a few calls a second are not worth a pool.
    async fn request(&self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await.context("cannot reach serin's admin API")?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .body(Empty::<Bytes>::new())?;
        Ok(sender.send_request(request).await?)
    }
}

fn text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_slice(body) {
        Ok(Refusal { error }) => error,
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    }
}

/// The lines of an event stream, whatever pieces they arrive in.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// The events that `data` completes. serin sends each as one `data:` line;
    /// comments, names and what is no event are passed over.
    fn feed(&mut self, data: &[u8]) -> Vec<Told> {
        self.rest.extend_from_slice(data);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let complete: Vec<u8> = self.rest.drain(..=end).collect();
        complete
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line.strip_prefix(b"data:")?).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::EventKind;

    const STREAM: &str = ": welcome\r\n\r\nevent: step\r\ndata: {\"at\":7,\"rollout\":\"web\",\"kind\":\"step\",\
        \"text\":\"canary at 5 %\",\"canary_parts\":500}\r\n\r\ndata: {\"other\":1}\n\n\
        data: {\"at\":9,\"rollout\":\"web\",\"kind\":\"rolled_back\",\"text\":\"\",\"canary_parts\":0,\
        \"id\":3,\"in_force_us\":1200}\n\n";

    #[test]
    fn events_are_read_however_the_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut lines = Lines::default();
            let told: Vec<Told> =
                STREAM.as_bytes().chunks(size).flat_map(|piece| lines.feed(piece)).collect();
            assert_eq!(told.len(), 2, "in pieces of {size}");
            assert_eq!((told[0].event.kind, told[0].event.canary_parts), (EventKind::Step, 500));
            assert_eq!((told[1].event.kind, told[1].event.at), (EventKind::RolledBack, Moment(9)));
            assert_eq!([told[0].in_force(), told[1].in_force()], [Moment(7), Moment(11)]);
        }
    }

    #[test]
    fn event_is_not_given_out_before_its_line_ends() {
        let mut lines = Lines::default();
        let (most, end) = STREAM.split_at(STREAM.find("500}").expect("it is in the text above") + 4);
        assert!(lines.feed(most.as_bytes()).is_empty());
        assert_eq!(lines.feed(end.as_bytes()).len(), 2);
    }

    #[test]
    fn refusal_is_told_in_serins_words() {
        assert_eq!(text(b"{\"error\":\"it is running\"}"), "it is running");
        assert_eq!(text(b" plain \n"), "plain");
    }
}
