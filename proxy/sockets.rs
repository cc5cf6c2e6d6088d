//! The listening sockets of the process: which listener has which, and what has
//! to be opened and closed when the listeners change.
//!
//! What can fail is done first and changes nothing; then the workers are told. A
//! listener that only takes another name keeps its sockets, and with them whoever
//! is knocking.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::listen;
use crate::listen::Ear;
use crate::model::Listener;
use crate::worker::Order;

/// Listener names and the addresses they really got.
#[derive(Clone, Debug)]
pub struct Bound(pub Vec<(String, SocketAddr)>);

/// A listening socket that somebody else opened for us.
#[derive(Debug)]
pub struct Inherited {
    /// The listener's, where it is known.
    pub name: String,
    /// What the listener's configuration said when it was opened; none where
    /// the name alone says whose it is.
    pub asked: Option<SocketAddr>,
    pub socket: TcpListener,
}

pub struct Sockets {
    workers: usize,
    open: Vec<Open>,
    inherited: Vec<Inherited>,
    next: u64,
    /// We accept no more, whatever a later file says.
    closed: bool,
}

/// A listener's sockets. The workers accept from copies of their own.
struct Open {
    id: u64,
    name: String,
    asked: SocketAddr,
    sockets: Vec<TcpListener>,
}

/// What is to be done so that another list of listeners is served.
#[derive(Default)]
pub struct Plan {
    opened: Vec<Open>,
    closed: Vec<u64>,
}

/// An address that cannot be had.
pub struct Refused {
    pub listener: String,
    pub address: SocketAddr,
    pub cause: io::Error,
}

impl Sockets {
    pub fn new(workers: usize, inherited: Vec<Inherited>) -> Sockets {
        Sockets { workers, open: Vec::new(), inherited, next: 0, closed: false }
    }

    /// Binds what is new; nothing is accepted from it yet.
    pub fn plan(&mut self, listeners: &[Listener]) -> Result<Plan, Vec<Refused>> {
        if self.closed {
            return Ok(Plan::default());
        }
        let (mut opened, mut kept, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for listener in listeners {
            if let Some(open) = self.open.iter().find(|open| open.is(listener)) {
                kept.push(open.id);
                continue;
            }
            match self.sockets_for(listener) {
                Ok(sockets) => {
                    self.next += 1;
                    let (name, asked) = (listener.name.clone(), listener.address);
                    opened.push(Open { id: self.next, name, asked, sockets });
                }
                Err(cause) => {
                    let (listener, address) = (listener.name.clone(), listener.address);
                    refused.push(Refused { listener, address, cause });
                }
            }
        }
        if !refused.is_empty() {
            return Err(refused);
        }
        let closed = self.open.iter().map(|open| open.id).filter(|id| !kept.contains(id)).collect();
        Ok(Plan { opened, closed })
    }

    fn sockets_for(&mut self, listener: &Listener) -> io::Result<Vec<TcpListener>> {
        let mut handed = Vec::new();
        let mut index = 0;
        while index < self.inherited.len() {
            match self.inherited[index].is_for(listener) {
                true => handed.push(self.inherited.swap_remove(index).socket),
                false => index += 1,
            }
        }
        if !handed.is_empty() {
            return listen::join(handed, self.workers);
        }
        let same = |open: &&Open| listener.address.port() != 0 && open.asked == listener.address;
        if let Some(renamed) = self.open.iter().find(same) {
            return renamed.sockets.iter().map(TcpListener::try_clone).collect();
        }
        let shared = self.bound().0.iter().any(|(_, bound)| bound.port() == listener.address.port());
        listen::bind(listener.address, self.workers, shared)
    }

    /// Puts the plan into effect. The connections of what is closed have until
    /// `deadline` to end.
    pub fn carry_out(
        &mut self,
        plan: Plan,
        workers: &[UnboundedSender<Order>],
        deadline: Option<Duration>,
    ) -> io::Result<()> {
        let tell = |worker: usize, order: Order| {
            // Only a worker whose thread has ended does not hear.
            let _ = workers[worker].send(order);
        };
        let mut shared_out = Ok(());
        for open in plan.opened {
            let name: Arc<str> = open.name.as_str().into();
            match listen::deal(&open.sockets, workers.len()) {
                Ok(dealt) => {
                    for (worker, sockets) in dealt.into_iter().enumerate() {
                        for socket in sockets {
                            tell(worker, Order::Open(Ear { id: open.id, name: name.clone(), socket }));
                        }
                    }
                    self.open.push(open);
                }
                Err(cause) => shared_out = Err(cause),
            }
        }
        self.open.retain(|open| !plan.closed.contains(&open.id));
        for id in plan.closed {
            (0..workers.len()).for_each(|worker| tell(worker, Order::Close { id, deadline }));
        }
        // What nobody wanted by now nobody will want.
        self.inherited.clear();
        shared_out
    }

    pub fn bound(&self) -> Bound {
        let address = |open: &Open| {
            let bound = open.sockets[0].local_addr();
            (open.name.clone(), bound.unwrap_or(open.asked))
        };
        Bound(self.open.iter().map(address).collect())
    }

    /// Lets go of all sockets; answers with whose ears are to be closed.
    pub fn close_all(&mut self) -> Vec<u64> {
        self.closed = true;
        self.open.drain(..).map(|open| open.id).collect()
    }

    /// Copies of all, for another process.
    pub fn hand_over(&self) -> io::Result<Vec<Inherited>> {
        let copies = self.open.iter().flat_map(|open| open.sockets.iter().map(move |socket| (open, socket)));
        let copy = |(open, socket): (&Open, &TcpListener)| {
            Ok(Inherited { name: open.name.clone(), asked: Some(open.asked), socket: socket.try_clone()? })
        };
        copies.map(copy).collect()
    }
}

impl Open {
    fn is(&self, listener: &Listener) -> bool {
        self.name == listener.name && self.asked == listener.address
    }
}

impl Inherited {
    fn is_for(&self, listener: &Listener) -> bool {
        let same_address = self.socket.local_addr().is_ok_and(|address| address == listener.address);
        same_address
            || (self.name == listener.name && self.asked.is_none_or(|asked| asked == listener.address))
    }
}
