//! The floor: copies bytes between a client and one of two upstreams, and knows no HTTP.
//! The version is drawn once a connection, nine of ten in turn; no proxy that answers requests
//! can do with fewer system calls than this.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use anyhow::Result;

use crate::epoll::Batch;
use crate::epoll::Epoll;

#[derive(clap::Args)]
pub struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    primary: SocketAddr,
    #[arg(long)]
    canary: SocketAddr,
    /// Bytes that are read at once
    #[arg(long, default_value_t = 65536)]
    buffer: usize,
}

/// How long a peer may refuse to take bytes before its pair is cut.
const WRITE_PATIENCE_MS: i32 = 1_000;

/// One end of a pair; the other end's slot is beside it.
struct End {
    stream: TcpStream,
    other: usize,
}

/// Runs until it is killed.
pub fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen)?;
    let epoll = Epoll::new()?;
    epoll.watch(&listener, 0)?;
    let mut ends: Vec<Option<End>> = vec![None];
    let mut batch = Batch::new();
    let mut scratch = vec![0; options.buffer];
    let mut turn = 0_usize;
    loop {
        for index in 0..epoll.wait(&mut batch, -1)? {
            let token = batch.token(index);
            if token == 0 {
                turn += 1;
                let upstream = if turn % 10 == 5 { options.canary } else { options.primary };
                let _ = pair(&listener, upstream, &epoll, &mut ends);
                continue;
            }
            let Some(end) = &ends[token] else { continue };
            let other = end.other;
            if pass(&ends, token, other, &mut scratch).is_err() {
                // Both at once: half-closing is for proxies that know what a message is.
                ends[token] = None;
                ends[other] = None;
            }
        }
    }
}

fn pair(
    listener: &TcpListener,
    upstream: SocketAddr,
    epoll: &Epoll,
    ends: &mut Vec<Option<End>>,
) -> io::Result<()> {
    let (client, _) = listener.accept()?;
    let server = TcpStream::connect(upstream)?;
    let first = ends.len();
    for (stream, token, other) in [(client, first, first + 1), (server, first + 1, first)] {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll.watch(&stream, token)?;
        ends.push(Some(End { stream, other }));
    }
    Ok(())
}

fn pass(ends: &[Option<End>], from: usize, to: usize, scratch: &mut [u8]) -> io::Result<()> {
    let (Some(from), Some(to)) = (&ends[from], &ends[to]) else {
        return Err(io::ErrorKind::NotConnected.into());
    };
    let count = match (&from.stream).read(scratch) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut rest = &scratch[..count];
    while !rest.is_empty() {
        match (&to.stream).write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => until_writable(&to.stream)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn until_writable(stream: &TcpStream) -> io::Result<()> {
    let mut wanted = libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live entry, and its length is given as one.
    match unsafe { libc::poll(&raw mut wanted, 1, WRITE_PATIENCE_MS) } {
        1 => Ok(()),
        _ => Err(io::ErrorKind::TimedOut.into()),
    }
}
