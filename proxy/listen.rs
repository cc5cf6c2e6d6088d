//! Listening sockets: one per worker on the same address, shared out by the
//! kernel, so that no two workers ever touch the same connection.
//!
//! A process may be born with sockets that another opened for it. Each of these
//! has a queue of its own in the kernel, so every one is accepted by somebody,
//! however many workers there are.

use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream as Pair;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::clock;
use crate::connections::Connection;
use crate::connections::Connections;
use crate::lane::Lane;
use crate::serve::serve;
use crate::serve::serve_ourselves;
use crate::table::ListenerPlan;
use crate::wire::Wire;

const BACKLOG: i32 = 4096;
/// Without descriptors, or with too much of all, we look again after this time.
const REST: Duration = Duration::from_millis(50);
/// Sockets of listeners never have this id.
const NO_EAR: u64 = u64::MAX;
/// How often it is told that we cannot accept.
const TELL: Duration = Duration::from_secs(10);

/// One worker's socket of a listener.
pub struct Ear {
    /// Names the listener's sockets among all that were ever opened.
    pub id: u64,
    pub name: Arc<str>,
    pub socket: std::net::TcpListener,
}

/// How an ear is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    Open,
    /// Who has knocked already is let in, and that was it.
    Closing,
}

/// As many sockets on `address` as there are workers. Port 0 is settled by the
/// first. `shared` says that we have sockets on this port already.
pub fn bind(address: SocketAddr, workers: usize, shared: bool) -> io::Result<Vec<std::net::TcpListener>> {
    // Our sockets share their address with any other that asks for it: make sure
    // that none is there, or two processes would split the traffic in silence.
    if address.port() != 0 && !shared {
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

/// More sockets beside those that were handed to us. Where the kernel has none
/// for us (they were opened without sharing) workers share those there are.
pub fn join(
    mut sockets: Vec<std::net::TcpListener>,
    workers: usize,
) -> io::Result<Vec<std::net::TcpListener>> {
    let address = sockets[0].local_addr()?;
    for inherited in &sockets {
        inherited.set_nonblocking(true)?;
    }
    while sockets.len() < workers {
        match socket(address) {
            Ok(another) => sockets.push(another),
            Err(_) => break,
        }
    }
    Ok(sockets)
}

/// Which sockets each worker accepts from: every one is somebody's, and every
/// worker has one.
pub fn deal(
    sockets: &[std::net::TcpListener],
    workers: usize,
) -> io::Result<Vec<Vec<std::net::TcpListener>>> {
    let mut dealt: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for turn in 0..workers.max(sockets.len()) {
        dealt[turn % workers].push(sockets[turn % sockets.len()].try_clone()?);
    }
    Ok(dealt)
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

/// Accepts until it is told to close, and then whoever had already knocked.
pub async fn accept(
    ear: Ear,
    lane: Rc<Lane>,
    connections: Rc<Connections>,
    mut hearing: watch::Receiver<Hearing>,
) {
    let Ear { id, name, socket } = ear;
    let listener = TcpListener::from_std(socket).expect("a listening socket joins a live reactor");
    let Some(mut plan) = lane.view().table.listener(&name).cloned() else {
        return tracing::error!(listener = %name, "sockets were opened for a listener that is not there");
    };
    let mut told_us = 0;
    loop {
        if lane.overload.refuses_connections() && *hearing.borrow() == Hearing::Open {
            tokio::time::sleep(REST).await;
            continue;
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = hearing.wait_for(|hearing| *hearing == Hearing::Closing) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly: who carries nothing makes room.
                let now_us = clock::now_us();
                if told_us == 0 || now_us > told_us + clock::us(TELL) {
                    told_us = now_us;
                    tracing::warn!(%error, listener = %name, "cannot accept");
                }
                connections.see_off(None, 0, now_us);
                tokio::time::sleep(REST).await;
                continue;
            }
        };
        // What a removed listener last was is what its late comers meet.
        if let Some(now) = lane.view().table.listener(&name) {
            plan.clone_from(now);
        }
        admit(stream, id, &lane, &connections, &plan);
    }
    // Asked of the kernel itself: the reactor may not have told us of them yet.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok((stream, _)) = listener.accept() else { break };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            admit(stream, id, &lane, &connections, &plan);
        }
    }
}

fn admit(
    stream: TcpStream,
    id: u64,
    lane: &Rc<Lane>,
    connections: &Rc<Connections>,
    plan: &Arc<ListenerPlan>,
) {
    let seats = lane.overload.seats(lane.index);
    if plan.occupancy.total() >= plan.limits.max_connections as u64 {
        return seats.refused_connections.add(1);
    }
    let Ok(address) = stream.peer_addr() else { return };
    // A client that is gone already shows at the first read.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(plan.limits.write_timeout));
    let is_full = lane.overload.is_full(&lane.view().table.model.overload);
    let connection = match is_full {
        false => connections.open(id, &plan.limits),
        true => {
            seats.refused_connections.add(1);
            let Some(connection) = connections.open_surplus(id, &plan.limits) else { return };
            connection
        }
    };
    let guest = Guest::new(lane, connections, connection, plan);
    let connection = guest.connection.clone();
    let task = tokio::task::spawn_local(async move {
        let Guest { lane, connection, plan, .. } = &guest;
        serve(lane.clone(), connection.clone(), Wire::Tcp(stream), address, plan).await;
    });
    connection.driven_by(task.abort_handle());
}

/// Lets our own load in by this listener. Where there is too much, or the listener
/// has gone, the other end sees it closed.
pub fn adopt(stream: Pair, listener: &str, lane: &Rc<Lane>, connections: &Rc<Connections>) {
    let view = lane.view();
    let Some(plan) = view.table.listener(listener) else { return };
    if lane.overload.is_full(&view.table.model.overload) {
        return lane.overload.seats(lane.index).refused_connections.add(1);
    }
    let Ok(stream) = UnixStream::from_std(stream) else { return };
    let connection = connections.open(NO_EAR, &plan.limits);
    let guest = Guest::new(lane, connections, connection, plan);
    let connection = guest.connection.clone();
    let task = tokio::task::spawn_local(async move {
        let Guest { lane, connection, plan, .. } = &guest;
        serve_ourselves(lane.clone(), connection.clone(), Wire::Unix(stream), plan).await;
    });
    connection.driven_by(task.abort_handle());
}

/// A connection while it is there; leaves the lists however its task ends.
struct Guest {
    lane: Rc<Lane>,
    connections: Rc<Connections>,
    connection: Rc<Connection>,
    plan: Arc<ListenerPlan>,
}

impl Guest {
    fn new(
        lane: &Rc<Lane>,
        connections: &Rc<Connections>,
        connection: Rc<Connection>,
        plan: &Arc<ListenerPlan>,
    ) -> Guest {
        lane.overload.seats(lane.index).opened.add(1);
        plan.occupancy.enter(lane.index);
        Guest { lane: lane.clone(), connections: connections.clone(), connection, plan: plan.clone() }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.connections.close(&self.connection);
        self.plan.occupancy.leave(self.lane.index);
        self.lane.overload.seats(self.lane.index).closed.add(1);
    }
}
