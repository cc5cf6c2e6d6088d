//! The HTTP/2 connections of one worker to one endpoint, each shared by as many
//! requests as the endpoint allows at once. Where all are full another is opened,
//! up to a bound; beyond it requests wait for a stream to end.

use std::cell::Cell;
use std::cell::RefCell;
use std::rc::Rc;

use hyper::client::conn::http1;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::body::RequestBody;
use crate::clock;
use crate::fault::Fault;
use crate::upstream::connect;
use crate::upstream::connect::Dial;
use crate::upstream::connect::Opened;
use crate::upstream::gate::Admitted;
use crate::upstream::gate::Gate;
use crate::upstream::gate::Open;

/// Connections of one worker to one endpoint, where nothing else is said.
pub const CONNECTIONS: u32 = 16;

#[derive(Default)]
pub struct Streams {
    shared: RefCell<Vec<Shared>>,
    /// One is dialled at a time: those who wait may all find room on it.
    dialing: Cell<bool>,
    dialed: Notify,
    /// How often one was dialled, and how the last dial failed.
    dials: Cell<u64>,
    failed: Cell<Option<Fault>>,
    /// Where the endpoint chooses: it last chose HTTP/1.
    http1: Cell<bool>,
}

/// What a request gets that asks for a stream.
pub enum Taken {
    Stream(Stream),
    /// The endpoint has chosen HTTP/1 for this new connection.
    Http1(http1::SendRequest<RequestBody>, AbortHandle, Open),
    /// It did so for somebody else: there are no streams to wait for.
    None,
}

#[derive(Clone)]
struct Shared {
    sender: SendRequest<RequestBody>,
    load: Rc<Load>,
    /// What the endpoint allows at once, as it last said.
    most: Rc<Cell<usize>>,
}

struct Load {
    open: Open,
    streams: Cell<usize>,
    quiet_since_us: Cell<u64>,
}

/// A place for one request on a shared connection.
pub struct Stream {
    pub sender: SendRequest<RequestBody>,
    load: Rc<Load>,
    gate: Rc<Gate>,
}

impl Streams {
    /// Does the endpoint speak HTTP/1, as it last chose?
    pub fn are_none(&self) -> bool {
        self.http1.get()
    }

    pub async fn take(&self, gate: &Rc<Gate>, way: Dial<'_>) -> Result<Taken, Fault> {
        if !gate.is_crowded()
            && let Some(stream) = self.free_stream(gate)
        {
            return Ok(Taken::Stream(stream));
        }
        let _pending = gate.pending()?;
        loop {
            if self.dialing.get() {
                self.dialed(self.dials.get()).await?;
                if let Some(stream) = self.free_stream(gate) {
                    return Ok(Taken::Stream(stream));
                }
                if self.http1.get() {
                    return Ok(Taken::None);
                }
                continue;
            }
            match gate.admit(false, || self.free_stream(gate)).await? {
                Admitted::Kept(stream) => return Ok(Taken::Stream(stream)),
                Admitted::New(_) if self.dialing.get() => {}
                Admitted::New(open) => {
                    if let Some(http1) = self.dial(gate, open, way).await? {
                        return Ok(http1);
                    }
                }
            }
        }
    }

    /// Closes what has been quiet for too long, and forgets what is closed.
    pub fn expire(&self, gate: &Gate, now_us: u64) {
        let rules = gate.rules().clone();
        let is_over = |shared: &mut Shared| {
            let quiet = shared.load.streams.get() == 0;
            shared.sender.is_closed()
                || (quiet && rules.is_quiet_for_too_long(shared.load.quiet_since_us.get(), now_us))
        };
        let over: Vec<Shared> = self.shared.borrow_mut().extract_if(.., is_over).collect();
        drop(over);
    }

    pub fn is_empty(&self) -> bool {
        self.shared.borrow().is_empty()
    }

    /// A place on the connection that has most room.
    fn free_stream(&self, gate: &Rc<Gate>) -> Option<Stream> {
        let over: Vec<Shared> = self.shared.borrow_mut().extract_if(.., |shared| shared.is_over()).collect();
        drop(over);
        let max_streams = gate.rules().max_streams;
        let shared = self.shared.borrow();
        let with_room = shared.iter().filter(|shared| shared.room(max_streams) > 0);
        let Shared { sender, load, .. } = with_room.max_by_key(|shared| shared.room(max_streams))?;
        Some(Stream::new(sender, load, gate))
    }

    /// A new connection, and the first place on it.
    pub fn share(
        &self,
        sender: SendRequest<RequestBody>,
        most: Rc<Cell<usize>>,
        open: Open,
        gate: &Rc<Gate>,
    ) -> Stream {
        self.http1.set(false);
        gate.set_usual(CONNECTIONS);
        let shared = Shared::new(sender, most, open);
        let stream = Stream::new(&shared.sender, &shared.load, gate);
        self.shared.borrow_mut().push(shared);
        stream
    }

    /// `None` where there are streams now.
    async fn dial(&self, gate: &Gate, open: Open, way: Dial<'_>) -> Result<Option<Taken>, Fault> {
        self.dialing.set(true);
        self.dials.set(self.dials.get() + 1);
        self.failed.set(None);
        let _dialing = Dialing(self);
        match connect::open(way).await {
            Ok(Opened::Http2(sender, most)) => {
                self.shared.borrow_mut().push(Shared::new(sender, most, open));
                Ok(None)
            }
            Ok(Opened::Http1(sender, driver)) => {
                self.http1.set(true);
                gate.set_usual(u32::MAX);
                Ok(Some(Taken::Http1(sender, driver, open)))
            }
            Err(fault) => {
                self.failed.set(Some(fault));
                Err(fault)
            }
        }
    }

    /// Waits for somebody else's dial, and shares its failure.
    async fn dialed(&self, dial: u64) -> Result<(), Fault> {
        self.dialed.notified().await;
        match self.failed.get() {
            Some(fault) if self.dials.get() == dial => Err(fault),
            _ => Ok(()),
        }
    }
}

impl Shared {
    fn new(sender: SendRequest<RequestBody>, most: Rc<Cell<usize>>, open: Open) -> Shared {
        let quiet_since_us = Cell::new(clock::recent_us());
        Shared { sender, load: Rc::new(Load { open, streams: Cell::new(0), quiet_since_us }), most }
    }

    fn room(&self, max_streams: usize) -> usize {
        self.most.get().min(max_streams).saturating_sub(self.load.streams.get())
    }

    /// It takes no further request; those on it go on.
    fn is_over(&self) -> bool {
        self.sender.is_closed() || self.load.open.is_spent()
    }
}

impl Stream {
    fn new(sender: &SendRequest<RequestBody>, load: &Rc<Load>, gate: &Rc<Gate>) -> Stream {
        load.streams.set(load.streams.get() + 1);
        load.open.serve();
        Stream { sender: sender.clone(), load: load.clone(), gate: gate.clone() }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.load.streams.set(self.load.streams.get() - 1);
        self.load.quiet_since_us.set(clock::recent_us());
        self.gate.free();
    }
}

/// Lets the waiting requests look again, also when the dial is given up.
struct Dialing<'a>(&'a Streams);

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.dialing.set(false);
        self.0.dialed.notify_waiters();
    }
}
