//! What comes before a connection's first request: who the client really is, by
//! the PROXY protocol, and the handshake of TLS.
//!
//! Both count as the beginning of a head: who takes longer than a head may take
//! is let go, by the same sweep.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use rustls::ServerConnection;
use tokio_rustls::TlsAcceptor;

use crate::connections::Connection;
use crate::connections::Ending;
use crate::forwarded::Peer;
use crate::forwarded::Shown;
use crate::lane::Lane;
use crate::preamble;
use crate::preamble::Ends;
use crate::table::ListenerPlan;
use crate::tls;
use crate::wire::Tls;
use crate::wire::Wire;

/// A connection that is ready for requests.
pub struct Arrived {
    pub wire: Wire,
    pub peer: Peer,
    /// Agreed on in the handshake.
    pub http2: bool,
}

/// `None` where the connection ends before a request could come.
pub async fn arrive(
    lane: &Lane,
    connection: &Connection,
    wire: Wire,
    remote: SocketAddr,
    plan: &ListenerPlan,
) -> Option<Arrived> {
    let local = wire.local_address();
    if plan.proxy_protocol.is_none() && plan.tls.is_none() {
        let peer = Peer::known(remote, local, false, Shown::Nothing, &plan.forwarded);
        return Some(Arrived { wire, peer, http2: false });
    }
    connection.heard();
    let welcomed = welcome(lane, wire, remote, local, plan);
    let arrived = match unless_ended(connection, Box::pin(welcomed)).await? {
        Ok(arrived) => arrived,
        Err(error) => {
            tracing::debug!(peer = %remote, listener = plan.name, %error, "client not let in");
            return None;
        }
    };
    connection.settled();
    Some(arrived)
}

async fn welcome(
    lane: &Lane,
    wire: Wire,
    remote: SocketAddr,
    local: Option<SocketAddr>,
    plan: &ListenerPlan,
) -> io::Result<Arrived> {
    let (mut remote, mut local) = (remote, local);
    if let (Some(policy), Wire::Tcp(stream), Some(here)) = (&plan.proxy_protocol, &wire, local) {
        let ends = preamble::read(stream, policy, Ends { client: remote, local: here }).await?;
        (remote, local) = (ends.client, Some(ends.local));
    }
    let Some(tls) = &plan.tls else {
        let peer = Peer::known(remote, local, false, Shown::Nothing, &plan.forwarded);
        return Ok(Arrived { wire, peer, http2: false });
    };
    let _place = Place::take(&lane.handshakes, tls.max_handshakes)?;
    let shaken = TlsAcceptor::from(tls.config.clone()).accept(wire).await;
    let (wire, session) = match shaken {
        Ok(stream) => stream.into_inner(),
        Err(error) => {
            lane.counts.handshakes_failed.add(1);
            return Err(error);
        }
    };
    lane.counts.handshakes.add(1);
    let peer = Peer::known(remote, local, true, shown(&session, tls, plan), &plan.forwarded);
    let http2 = tls::ServerPlan::speaks_http2(session.alpn_protocol());
    let wire = Wire::Tls(Box::new(Tls::new(wire, rustls::Connection::Server(session))));
    Ok(Arrived { wire, peer, http2 })
}

/// The certificate that the client has shown.
fn shown(session: &ServerConnection, tls: &tls::ServerPlan, plan: &ListenerPlan) -> Shown {
    match session.peer_certificates() {
        None => Shown::Nothing,
        Some(client) => {
            let details = tls::Details { client, own: tls.shown(session.server_name()) };
            Shown::Certificate { element: details.element(&plan.forwarded.client_certificate.details) }
        }
    }
}

/// One of the handshakes that a worker has under way.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(places: &Rc<Cell<usize>>, most: usize) -> io::Result<Place> {
        if places.get() >= most {
            return Err(io::Error::other("too many handshakes at once"));
        }
        places.set(places.get() + 1);
        Ok(Place(places.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The future's output, unless the connection has to end now. What is asked to
/// end gracefully may finish its handshake, and meets its end in its first answer.
async fn unless_ended<F: Future>(connection: &Connection, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match connection.ending(cx) {
        Ending::Now => Poll::Ready(None),
        Ending::Graceful | Ending::None => future.as_mut().poll(cx).map(Some),
    })
    .await
}
