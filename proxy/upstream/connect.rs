//! Dials an endpoint and starts the task that drives the connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::task::AbortHandle;

use crate::body::RequestBody;
use crate::carriage::Carriage;
use crate::carriage::Failed;
use crate::cork::Driver;
use crate::cork::cork;
use crate::fault::At;
use crate::fault::Fault;
use crate::fault::Kind;
use crate::location::Location;
use crate::model::Protocol;
use crate::preamble::Ends;
use crate::wire::Wire;

/// Room for an answer's head.
const MAX_HEAD: usize = 256 * 1024;
/// What one answer may send ahead of its reader.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The largest there is: a few clients that do not read must not hold up the
/// answers of all others that share the connection.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// A connection that does not answer a ping is given up.
const PING: Duration = Duration::from_secs(10);

/// All that it takes to reach an endpoint.
#[derive(Clone, Copy)]
pub struct Dial<'a> {
    pub carriage: &'a Carriage,
    pub location: &'a Location,
    pub host: Option<&'a str>,
    pub ends: Option<Ends>,
    pub timeout: Duration,
}

/// A new connection that speaks what its version says, or its endpoint.
pub enum Opened {
    Http1(http1::SendRequest<RequestBody>, AbortHandle),
    /// And with how many requests the endpoint takes at once, as it last said.
    Http2(http2::SendRequest<RequestBody>, Rc<Cell<usize>>),
}

pub async fn open(way: Dial<'_>) -> Result<Opened, Fault> {
    let wire = way.dial().await?;
    let http2 = match way.carriage.protocol {
        Protocol::Http1 => false,
        Protocol::Http2 => true,
        Protocol::Auto => wire.has_chosen_http2(),
    };
    if http2 { open_http2(wire, way.location).await } else { open_http1(wire, way.location).await }
}

async fn open_http1(wire: Wire, location: &Location) -> Result<Opened, Fault> {
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(wire)).await;
    let (sender, connection) = handshake.map_err(|_| Fault::upstream(Kind::ConnectFailure))?;
    let location = location.clone();
    let driver = tokio::task::spawn_local(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%location, %error, "upstream connection ended");
        }
    });
    Ok(Opened::Http1(sender, driver.abort_handle()))
}

async fn open_http2(wire: Wire, location: &Location) -> Result<Opened, Fault> {
    let (corked, cork) = cork(wire);
    let handshake = http2::Builder::new(Driver::new(cork))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .handshake(TokioIo::new(corked))
        .await;
    let (sender, mut connection) = handshake.map_err(|_| Fault::upstream(Kind::ConnectFailure))?;
    let location = location.clone();
    let most = Rc::new(Cell::new(connection.current_max_send_streams()));
    let told = most.clone();
    tokio::task::spawn_local(async move {
        let driven = poll_fn(|cx| {
            let polled = Pin::new(&mut connection).poll(cx);
            told.set(connection.current_max_send_streams());
            polled
        });
        if let Err(error) = driven.await {
            tracing::debug!(%location, %error, "upstream connection ended");
        }
    });
    Ok(Opened::Http2(sender, most))
}

/// What we lack says nothing about the version.
fn is_shortage(error: &std::io::Error) -> bool {
    let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|number| short.contains(&number))
}

pub async fn dial(
    carriage: &Carriage,
    location: &Location,
    host: Option<&str>,
    ends: Option<Ends>,
    timeout: Duration,
) -> Result<Wire, Fault> {
    Dial { carriage, location, host, ends, timeout }.dial().await
}

impl Dial<'_> {
    async fn dial(&self) -> Result<Wire, Fault> {
        let location = self.location;
        let connected = self.carriage.connect(location, self.host, self.ends);
        match tokio::time::timeout(self.timeout, connected).await {
            Ok(Ok(wire)) => Ok(wire),
            Ok(Err(Failed::Connect(error))) => {
                tracing::debug!(%location, %error, "cannot connect");
                if is_shortage(&error) {
                    return Err(Fault { at: At::Proxy, kind: Kind::Overloaded });
                }
                // A reset comes from somebody who had taken the connection.
                let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
                Err(Fault::upstream(if reset { Kind::Reset } else { Kind::ConnectFailure }))
            }
            Ok(Err(Failed::Handshake(error))) => {
                tracing::debug!(%location, %error, "TLS handshake failed");
                Err(Fault::upstream(Kind::Handshake))
            }
            Err(_) => Err(Fault::upstream(Kind::ConnectTimeout)),
        }
    }
}
