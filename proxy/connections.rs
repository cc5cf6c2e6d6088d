//! The client connections of one worker: what each is doing, and when it has
//! done nothing for too long.
//!
//! One sweep over this list, twice a second, keeps the header and idle timeouts
//! of all connections; a request costs it a few stores.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::AbortHandle;

use crate::clock;
use crate::frames::Frames;
use crate::model::Limits;
use crate::wire::Wire;

/// Connections of a worker that are there to be refused, and how long each may take.
const MOST_SURPLUS: usize = 64;
const SURPLUS_TIME: Duration = Duration::from_secs(1);
/// How long a client must have been quiet to be sent away when there is too much.
const PRESSED_PATIENCE_US: u64 = 500_000;
/// The same for one that is too old.
const EXPIRED_PATIENCE_US: u64 = 1_000_000;

#[derive(Default)]
pub struct Connections {
    list: RefCell<Vec<Rc<Connection>>>,
    /// All end with their next answer, those that are yet to come too.
    farewell: Rc<Cell<bool>>,
    /// The same for as long as there is too much.
    pressed: Rc<Cell<bool>>,
    /// Connections that are only there to be refused.
    surplus: Cell<usize>,
}

pub struct Connection {
    /// Where it stands in the list.
    index: Cell<usize>,
    /// The listener's sockets that it came by.
    listener: u64,
    farewell: Rc<Cell<bool>>,
    pressed: Rc<Cell<bool>>,
    surplus: bool,
    /// Requests that it may still carry; none for any number.
    left: Cell<Option<u64>>,
    header_timeout_us: u64,
    idle_timeout_us: u64,
    /// When it is too old to take up more; zero for never.
    expires_us: u64,
    /// Driven by hyper, which has to be told when it is to end.
    irregular: Cell<bool>,
    /// Speaks HTTP/2, where bytes between requests are no beginning of a head.
    multiplexed: Cell<bool>,
    switched: Cell<bool>,
    flooded: Cell<bool>,
    /// Requests whose answers have not ended.
    busy: Cell<u32>,
    /// When the head that is being read began; zero between heads.
    head_since_us: Cell<u64>,
    quiet_since_us: Cell<u64>,
    ending: Cell<Ending>,
    /// When an HTTP/2 client got its good-bye, which it has to acknowledge; zero
    /// before.
    told_us: Cell<u64>,
    /// Set once it has been told to end, and never unset.
    leaving: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    task: RefCell<Option<AbortHandle>>,
}

/// How a connection is to end, if it is to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    None,
    /// After what is under way.
    Graceful,
    Now,
}

impl Connections {
    /// Of one listener's sockets, or of all.
    pub fn count(&self, listener: Option<u64>) -> usize {
        self.list.borrow().iter().filter(|connection| connection.came_by(listener)).count()
    }

    pub fn open(&self, listener: u64, limits: &Limits) -> Rc<Connection> {
        self.take(listener, limits, false)
    }

    /// For a client that there is no room for: all it gets is an answer that says
    /// so. None when there are too many of these too.
    pub fn open_surplus(&self, listener: u64, limits: &Limits) -> Option<Rc<Connection>> {
        (self.surplus.get() < MOST_SURPLUS).then(|| self.take(listener, limits, true))
    }

    fn take(&self, listener: u64, limits: &Limits, surplus: bool) -> Rc<Connection> {
        self.surplus.set(self.surplus.get() + usize::from(surplus));
        let header_timeout =
            if surplus { limits.header_timeout.min(SURPLUS_TIME) } else { limits.header_timeout };
        let idle_timeout = if surplus { limits.idle_timeout.min(SURPLUS_TIME) } else { limits.idle_timeout };
        let connection = Rc::new(Connection {
            index: Cell::new(self.list.borrow().len()),
            listener,
            farewell: self.farewell.clone(),
            pressed: self.pressed.clone(),
            surplus,
            left: Cell::new(limits.max_requests),
            irregular: Cell::new(false),
            header_timeout_us: clock::us(header_timeout),
            idle_timeout_us: clock::us(idle_timeout),
            expires_us: limits.max_duration.map_or(0, |most| clock::now_us() + clock::us(most)),
            multiplexed: Cell::new(false),
            switched: Cell::new(false),
            flooded: Cell::new(false),
            busy: Cell::new(0),
            head_since_us: Cell::new(0),
            quiet_since_us: Cell::new(clock::now_us()),
            ending: Cell::new(Ending::None),
            told_us: Cell::new(0),
            leaving: Cell::new(false),
            waker: RefCell::default(),
            task: RefCell::default(),
        });
        self.list.borrow_mut().push(connection.clone());
        connection
    }

    /// Takes off the list what `open` put on it; called once for each.
    pub fn close(&self, connection: &Connection) {
        self.surplus.set(self.surplus.get() - usize::from(connection.surplus));
        let mut list = self.list.borrow_mut();
        let index = connection.index.get();
        list.swap_remove(index);
        if let Some(moved) = list.get(index) {
            moved.index.set(index);
        }
    }

    /// Lets connections go after what is under way. One that carries nothing is
    /// only closed when it has been quiet for so long: its client may be about
    /// to ask, and would ask in vain.
    pub fn see_off(&self, listener: Option<u64>, patience_us: u64, now_us: u64) {
        for connection in self.list.borrow().iter().filter(|connection| connection.came_by(listener)) {
            connection.see_off(patience_us, now_us);
        }
    }

    /// While there is too much every answer is its connection's last, and who is
    /// silent has to go.
    pub fn press(&self, pressed: bool, now_us: u64) {
        self.pressed.set(pressed);
        if pressed {
            self.see_off(None, PRESSED_PATIENCE_US, now_us);
        }
    }

    /// Breaks off whatever is under way.
    pub fn cut(&self, listener: Option<u64>) {
        for connection in self.list.borrow().iter().filter(|connection| connection.came_by(listener)) {
            if let Some(task) = &*connection.task.borrow() {
                task.abort();
            }
        }
    }

    /// Ends every connection with the answer that it is given next.
    pub fn farewell(&self) {
        self.farewell.set(true);
        self.see_off(None, u64::MAX, 0);
    }

    pub fn sweep(&self, now_us: u64) {
        for connection in self.list.borrow().iter().filter(|connection| connection.has_expired(now_us)) {
            connection.see_off(EXPIRED_PATIENCE_US, now_us);
        }
        for connection in self.list.borrow().iter().filter(|connection| connection.busy.get() == 0) {
            let head = connection.head_since_us.get();
            let late = head != 0 && now_us > head.saturating_add(connection.header_timeout_us);
            if late || connection.outstays(now_us) {
                connection.end(Ending::Now);
            } else if head == 0
                && now_us > connection.quiet_since_us.get().saturating_add(connection.idle_timeout_us)
            {
                connection.end(Ending::Graceful);
            }
        }
    }
}

impl Connection {
    /// What to do now; `cx` is woken when that changes.
    pub fn ending(&self, cx: &Context<'_>) -> Ending {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        let ending = self.ending.replace(Ending::None);
        if ending == Ending::Graceful && self.multiplexed.get() && self.told_us.get() == 0 {
            self.told_us.set(clock::recent_us());
        }
        ending
    }

    /// Is this connection to end after what is under way?
    pub fn is_ending(&self) -> bool {
        self.leaving.get() || self.farewell.get() || self.pressed.get()
    }

    /// The task that drives it.
    pub fn driven_by(&self, task: AbortHandle) {
        *self.task.borrow_mut() = Some(task);
    }

    /// h2 waits for the word on its good-bye without a bound. Our client has as long
    /// for it as for a head, counted from when it carried something last.
    fn outstays(&self, now_us: u64) -> bool {
        let since_us = self.told_us.get().max(self.quiet_since_us.get());
        self.told_us.get() != 0 && now_us > since_us.saturating_add(self.header_timeout_us)
    }

    fn has_expired(&self, now_us: u64) -> bool {
        self.expires_us != 0 && now_us >= self.expires_us
    }

    fn see_off(&self, patience_us: u64, now_us: u64) {
        self.leaving.set(true);
        let busy = self.busy.get() > 0;
        let quiet = self.quiet_since_us.get().saturating_add(patience_us) <= now_us;
        let resting = !busy && quiet && !self.surplus && self.head_since_us.get() == 0;
        if resting || self.multiplexed.get() || (busy && self.irregular.get()) {
            self.end(Ending::Graceful);
        }
    }

    pub fn is_surplus(&self) -> bool {
        self.surplus
    }

    fn came_by(&self, listener: Option<u64>) -> bool {
        listener.is_none_or(|listener| listener == self.listener)
    }

    fn end(&self, ending: Ending) {
        self.leaving.set(true);
        if ending == Ending::Graceful && self.told_us.get() != 0 {
            return;
        }
        self.ending.set(ending);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// A request has come, of those that it may carry.
    pub fn begin(self: &Rc<Self>) -> Busy {
        if let Some(left) = self.left.get() {
            self.left.set(Some(left.saturating_sub(1)));
            if left <= 1 {
                self.leave();
            }
        }
        self.occupy()
    }

    /// Somebody else begins the request that was begun here.
    pub fn hand_on(&self) {
        self.left.set(self.left.get().map(|left| left + 1));
    }

    /// It is in use, by no other request.
    pub fn occupy(self: &Rc<Self>) -> Busy {
        self.busy.set(self.busy.get() + 1);
        self.head_since_us.set(0);
        Busy(self.clone())
    }

    /// From here on hyper drives it.
    pub fn set_irregular(&self) {
        self.irregular.set(true);
        if self.is_ending() {
            self.ending.set(Ending::Graceful);
        }
    }

    /// Ends with what is under way.
    pub fn leave(&self) {
        self.leaving.set(true);
        if self.irregular.get() {
            self.end(Ending::Graceful);
        }
    }

    pub fn set_multiplexed(&self) {
        self.multiplexed.set(true);
        self.head_since_us.set(0);
    }

    pub fn is_busy(&self) -> bool {
        self.busy.get() > 0
    }

    /// From now on another language than HTTP is spoken.
    pub fn switch(&self) {
        self.switched.set(true);
    }

    pub fn has_switched(&self) -> bool {
        self.switched.get()
    }

    /// It is closed because of what its client sent.
    pub fn flooded(&self) {
        self.flooded.set(true);
    }

    pub fn is_flooded(&self) -> bool {
        self.flooded.get()
    }

    /// What came so far was no beginning of a head.
    pub fn settled(&self) {
        self.head_since_us.set(0);
        self.quiet_since_us.set(clock::now_us());
    }

    /// Bytes came in.
    pub fn heard(&self) {
        if !self.multiplexed.get() && self.busy.get() == 0 && self.head_since_us.get() == 0 {
            self.head_since_us.set(clock::now_us());
        }
    }
}

/// A request of this connection is under way.
pub struct Busy(Rc<Connection>);

impl Busy {
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    /// For what outlives the request that began it.
    pub fn again(&self) -> Busy {
        self.0.occupy()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Busy(connection) = self;
        connection.busy.set(connection.busy.get() - 1);
        connection.quiet_since_us.set(clock::recent_us());
    }
}

/// A client's socket that tells its connection when bytes come in.
pub struct Watched {
    pub wire: Wire,
    /// What somebody else has read already; comes first.
    pub before: Vec<u8>,
    pub connection: Rc<Connection>,
    /// Where HTTP/2 is spoken.
    pub frames: Option<Frames>,
}

impl Watched {
    fn sent(&mut self, written: &Poll<io::Result<usize>>) {
        if let (Some(frames), Poll::Ready(Ok(count))) = (&mut self.frames, written) {
            frames.sent(*count);
        }
    }

    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.connection.heard();
        let Some(frames) = &mut self.frames else { return Ok(()) };
        frames.read(bytes).map_err(|flood| {
            self.connection.flooded();
            io::Error::new(io::ErrorKind::InvalidData, flood)
        })
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.before.is_empty() {
            let count = self.before.len().min(buf.remaining());
            buf.put_slice(&self.before[..count]);
            let rest = self.before.split_off(count);
            let came = std::mem::replace(&mut self.before, rest);
            return Poll::Ready(self.heard(&came));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(cx, buf))?;
        match &buf.filled()[before..] {
            [] => Poll::Ready(Ok(())),
            came => Poll::Ready(self.heard(came)),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write(cx, buf);
        self.sent(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.wire).poll_write_vectored(cx, bufs);
        self.sent(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn an_http2_client_is_told_once_to_go_and_sent_away_some_time_later() {
        let connections = Connections::default();
        let idle_timeout = Duration::from_secs(60);
        let connection = connections.open(0, &Limits { idle_timeout, ..Limits::default() });
        connection.set_irregular();
        connection.set_multiplexed();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let cx = Context::from_waker(&waker);
        assert_eq!(connection.ending(&cx), Ending::None);
        let mut now_us = clock::now_us() + clock::us(idle_timeout);
        let mut endings = Vec::new();
        for half_second in 1..=40 {
            now_us += SECOND_US / 2;
            connections.sweep(now_us);
            let before = woken.0.swap(0, Ordering::Relaxed);
            let ending = connection.ending(&cx);
            assert_eq!(before > 0, ending != Ending::None, "woken in vain");
            if ending == Ending::Graceful {
                connection.told_us.set(now_us);
            }
            if ending != Ending::None {
                endings.push((half_second, ending));
            }
            if ending == Ending::Now {
                break;
            }
        }
        assert_eq!(endings, [(1, Ending::Graceful), (22, Ending::Now)]);
    }

    #[test]
    fn what_outlives_its_request_is_no_other_request() {
        let connections = Connections::default();
        let connection = connections.open(0, &Limits { max_requests: Some(3), ..Limits::default() });
        let busy = connection.begin();
        let tunnel = busy.again();
        drop(busy);
        assert_eq!((connection.left.get(), connection.is_busy()), (Some(2), true));
        connection.hand_on();
        assert_eq!(connection.left.get(), Some(3));
        drop(tunnel);
        assert!(!connection.is_busy());
    }
}
