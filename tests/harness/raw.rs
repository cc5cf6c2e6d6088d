//! Servers that behave badly: plain sockets that refuse, reset, stall, lie or
//! leave, each in a way that a real upstream has been seen to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// What to do with a connection once it is accepted.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Reset before a byte is read.
    ResetAtOnce,
    /// Read a request head, then reset.
    ResetAfterHead,
    /// Read a request head, then close without a word.
    CloseAfterHead,
    /// Read everything, never answer.
    Stall,
    /// Accept, then neither read nor write.
    Deaf,
    /// Read a request head, end our sending side, keep on reading.
    HalfClose,
    /// Answer with bytes that are no HTTP.
    Garbage,
    /// A good head of a chunked answer, and with it what is no chunk.
    GarbageChunk,
    /// A head that promises a thousand bytes, ten of them, then a close.
    PartialLength,
    /// A chunked answer whose last chunk never comes, then a close.
    PartialChunked,
    /// As `PartialLength`, but silence instead of the close.
    SilentBody,
    /// A good answer, one byte at a time.
    Drip,
    /// A good keep-alive answer, then an unannounced close.
    CloseAfterAnswer,
}

/// A running bad server.
pub struct Raw {
    pub address: SocketAddr,
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Raw {
    pub fn start(manner: Manner) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (accepted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (accepted.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                // An error here only means that the proxy left first.
                std::thread::spawn(move || drop(behave(manner, stream)));
            }
        });
        Raw { address, accepted, stop }
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nx-origin: raw\r\n";

fn behave(manner: Manner, mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match manner {
        Manner::ResetAtOnce => {
            reset(stream);
            return Ok(());
        }
        Manner::Deaf => {
            // Parked until the process ends; the peer's close would need a read to be seen.
            std::thread::sleep(super::PATIENCE * 2);
            return Ok(());
        }
        _ => {}
    }
    if !read_head(&mut stream)? {
        return Ok(());
    }
    match manner {
        Manner::ResetAfterHead => reset(stream),
        Manner::CloseAfterHead => {}
        Manner::Stall => drain(&mut stream),
        Manner::HalfClose => {
            stream.shutdown(Shutdown::Write)?;
            drain(&mut stream);
        }
        Manner::Garbage => stream.write_all(b"\x00\xffno http here\r\n\r\n")?,
        Manner::GarbageChunk => {
            write(&mut stream, &[HEAD, b"transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"])?;
        }
        Manner::PartialLength => write(&mut stream, &[HEAD, b"content-length: 1000\r\n\r\n0123456789"])?,
        Manner::PartialChunked => {
            write(&mut stream, &[HEAD, b"transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n"])?;
        }
        Manner::SilentBody => {
            write(&mut stream, &[HEAD, b"content-length: 1000\r\n\r\n0123456789"])?;
            drain(&mut stream);
        }
        Manner::Drip => {
            for byte in [HEAD, b"content-length: 10\r\n\r\n0123456789"].concat() {
                stream.write_all(&[byte])?;
                std::thread::sleep(Duration::from_millis(2));
            }
            drain(&mut stream);
        }
        Manner::CloseAfterAnswer => write(&mut stream, &[HEAD, b"content-length: 2\r\n\r\nok"])?,
        Manner::ResetAtOnce | Manner::Deaf => unreachable!("answered above"),
    }
    Ok(())
}

fn write(stream: &mut TcpStream, parts: &[&[u8]]) -> std::io::Result<()> {
    stream.write_all(&parts.concat())
}

/// False when the peer left before it had sent a head.
fn read_head(stream: &mut TcpStream) -> std::io::Result<bool> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(false);
        }
        head.push(byte[0]);
    }
    Ok(true)
}

fn drain(stream: &mut TcpStream) {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).is_ok_and(|count| count > 0) {}
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}

/// An address where nobody listens; the port stays taken as long as this lives.
pub struct Closed {
    pub address: SocketAddr,
    _socket: Socket,
}

pub fn closed() -> Closed {
    let (address, socket) = bound();
    Closed { address, _socket: socket }
}

/// An address whose queue of new connections is full, so that dialling hangs.
pub struct Full {
    pub address: SocketAddr,
    _socket: Socket,
    _queued: Vec<Socket>,
}

pub fn full() -> Full {
    let (address, socket) = bound();
    socket.listen(0).expect("a bound socket can listen");
    let queued = (0..4)
        .map(|_| {
            let caller = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets left");
            caller.set_nonblocking(true).expect("a socket can be made so");
            let _ = caller.connect(&SockAddr::from(address));
            caller
        })
        .collect();
    Full { address, _socket: socket, _queued: queued }
}

fn bound() -> (SocketAddr, Socket) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets left");
    socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0)))).expect("loopback has a free port");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("it is an IPv4 socket");
    (address, socket)
}

#[test]
fn each_manner_is_what_it_says() {
    use super::{Ask, Conn};
    use std::io::ErrorKind;
    let error = |manner| {
        let raw = Raw::start(manner);
        // A reset can be met as early as by the connect.
        let ask = |mut conn: Conn| {
            conn.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a legal timeout");
            conn.try_ask(&Ask::get("/"))
        };
        let answer = Conn::try_open(raw.address).and_then(ask);
        answer.map(|reply| reply.text()).map_err(|error| error.kind())
    };
    assert!(matches!(error(Manner::ResetAtOnce), Err(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)));
    assert_eq!(error(Manner::ResetAfterHead), Err(ErrorKind::ConnectionReset));
    assert_eq!(error(Manner::CloseAfterHead), Err(ErrorKind::UnexpectedEof));
    assert_eq!(error(Manner::HalfClose), Err(ErrorKind::UnexpectedEof));
    assert_eq!(error(Manner::Stall), Err(ErrorKind::WouldBlock));
    assert_eq!(error(Manner::SilentBody), Err(ErrorKind::WouldBlock));
    assert_eq!(error(Manner::Garbage), Err(ErrorKind::InvalidData));
    assert_eq!(error(Manner::GarbageChunk), Err(ErrorKind::InvalidData));
    assert_eq!(error(Manner::PartialLength), Err(ErrorKind::UnexpectedEof));
    assert_eq!(error(Manner::PartialChunked), Err(ErrorKind::UnexpectedEof));
    assert_eq!(error(Manner::Drip), Ok("0123456789".into()));
    assert_eq!(error(Manner::CloseAfterAnswer), Ok("ok".into()));
}

#[test]
fn a_closed_port_refuses_and_a_full_one_hangs() {
    let closed = closed();
    let refused = TcpStream::connect(closed.address).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let full = full();
    let hangs =
        TcpStream::connect_timeout(&full.address, Duration::from_millis(300)).expect_err("the queue is full");
    assert_eq!(hangs.kind(), std::io::ErrorKind::TimedOut);
}
