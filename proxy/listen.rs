//! Listening sockets: one per worker on the same address, shared out by the
//! kernel, so that no two workers ever touch the same connection.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::connections::Connections;
use crate::lane::Lane;
use crate::model::Limits;
use crate::serve::serve;
use crate::wire::Wire;

const BACKLOG: i32 = 4096;
/// A client that takes none of what we sent for this long is given up.
const UNREAD: Duration = Duration::from_secs(300);

/// As many sockets on `address` as there are workers. Port 0 is settled by the
/// first.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    // Our sockets share their address with any other that asks for it: make sure
    // that none is there, or two processes would split the traffic in silence.
    if address.port() != 0 {
        let alone = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        alone.set_reuse_address(true)?;
        alone.bind(&address.into())?;
    }
    let first = socket(address)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(socket(address)?);
    }
    Ok(sockets)
}

fn socket(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the worker drains, and then whoever had already knocked.
pub async fn accept(
    listener: TcpListener,
    lane: Rc<Lane>,
    connections: Rc<Connections>,
    limits: Rc<Limits>,
    mut draining: watch::Receiver<Option<Duration>>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(Option::is_some) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: waiting lets others be closed.
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        admit(stream, &lane, &connections, &limits);
    }
    // Asked of the kernel itself: the reactor may not have told us of them yet.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, _)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            admit(stream, &lane, &connections, &limits);
        }
    }
}

fn admit(stream: TcpStream, lane: &Rc<Lane>, connections: &Rc<Connections>, limits: &Rc<Limits>) {
    if connections.len() >= limits.max_connections {
        return;
    }
    let Ok(address) = stream.peer_addr() else { return };
    // A client that is gone already shows at the first read.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(UNREAD));
    let connection = connections.open(limits);
    let (lane, connections, limits) = (lane.clone(), connections.clone(), limits.clone());
    tokio::task::spawn_local(async move {
        lane.counts.opened.add(1);
        serve(lane.clone(), connection.clone(), Wire::Tcp(stream), address, &limits).await;
        connections.close(&connection);
        lane.counts.closed.add(1);
    });
}
