//! What drives the streams of an HTTP/2 client.
//!
//! hyper asks a body for more only when the client has room for it. A client that
//! gives none would keep its stream, and with it the upstream's connection, for
//! ever: nobody would look at the clock. So each stream's task looks itself,
//! whenever the sweep over the requests wakes it.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::flights::Flights;
use crate::flights::Key;

/// Runs one connection's streams on the worker's own thread.
#[derive(Clone)]
pub struct Streams {
    flights: Rc<Flights>,
    /// Of the stream that hyper is about to hand us.
    next: Rc<Cell<Option<Rc<Clock>>>>,
}

/// The request by whose time a stream is measured, once its answer has begun.
#[derive(Default)]
pub struct Clock(Cell<Option<Key>>);

impl Streams {
    pub fn new(flights: &Rc<Flights>) -> Streams {
        Streams { flights: flights.clone(), next: Rc::default() }
    }

    /// For the request that the connection has just handed to its service; its
    /// task is the next that hyper spawns.
    pub fn clock(&self) -> Rc<Clock> {
        let clock = Rc::new(Clock::default());
        self.next.set(Some(clock.clone()));
        clock
    }
}

impl Clock {
    pub fn set(&self, key: Option<Key>) {
        self.0.set(key);
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        let (clock, flights) = (self.next.take(), self.flights.clone());
        tokio::task::spawn_local(Driven { future, clock, flights });
    }
}

pin_project! {
    /// A future of its own, because an async block would hold what it drives twice.
    struct Driven<F> {
        #[pin]
        future: F,
        clock: Option<Rc<Clock>>,
        flights: Rc<Flights>,
    }
}

impl<F: Future> Future for Driven<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driven = self.project();
        if driven.future.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // What still waits although its time is up waits for the client.
        // Dropped, it resets its stream.
        let key = driven.clock.as_ref().and_then(|clock| clock.0.get());
        match key.and_then(|key| driven.flights.expired(key, cx.waker())) {
            Some(_) => Poll::Ready(()),
            None => Poll::Pending,
        }
    }
}
