//! One connection of the load: a request out, the answer checked to the last byte, the next request.
//! It keeps no time; whoever owns it does.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::ClientConnection;
use rustls::StreamOwned;
use rustls::pki_types::ServerName;

use crate::origin::head_end;

/// A head longer than this is not the origin's.
const MOST_HEAD: usize = 8 * 1024;

enum Pipe {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

pub struct Caller {
    pipe: Pipe,
    /// Which request is under way, and how much of it is out.
    request: usize,
    sent: usize,
    /// The head as far as it has come, then how much of the body.
    head: Vec<u8>,
    body: Option<usize>,
    pub waiting: bool,
}

#[derive(Debug, PartialEq)]
pub enum Answer {
    Good,
    Partial,
    Bad,
}

impl Caller {
    /// From this local address, if one is given: a peer that is called often would run out of ports.
    pub fn connect(
        address: SocketAddr,
        from: Option<Ipv4Addr>,
        tls: Option<&Arc<ClientConfig>>,
    ) -> io::Result<Caller> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        if let Some(from) = from {
            late_port(&socket)?;
            socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into())?;
        }
        // On loopback this does not wait.
        socket.connect(&address.into())?;
        let stream: TcpStream = socket.into();
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let pipe = match tls {
            None => Pipe::Plain(stream),
            Some(config) => {
                let name = ServerName::try_from("shop.example.com").map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
                Pipe::Tls(Box::new(StreamOwned::new(session, stream)))
            }
        };
        Ok(Caller { pipe, request: 0, sent: 0, head: Vec::new(), body: None, waiting: false })
    }

    pub fn stream(&self) -> &TcpStream {
        match &self.pipe {
            Pipe::Plain(stream) => stream,
            Pipe::Tls(stream) => &stream.sock,
        }
    }

    /// Begins one of the job's requests.
    pub fn send(&mut self, request: usize, requests: &[Vec<u8>]) -> io::Result<()> {
        self.request = request;
        self.sent = 0;
        self.waiting = true;
        self.push(requests)
    }

    /// Whether the request waits for the other end to take more.
    pub fn blocked(&self, requests: &[Vec<u8>]) -> bool {
        self.waiting && self.sent < requests[self.request].len()
    }

    /// Writes what the other end takes of the request.
    pub fn push(&mut self, requests: &[Vec<u8>]) -> io::Result<()> {
        let request = &requests[self.request];
        while self.sent < request.len() {
            let pending = &request[self.sent..];
            let written = match &mut self.pipe {
                Pipe::Plain(stream) => stream.write(pending),
                Pipe::Tls(stream) => stream.write(pending),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what came. Anything but the origin's own answer is bad, and so is an end of stream.
    pub fn receive(&mut self, scratch: &mut [u8], requests: &[Vec<u8>], body: &[u8]) -> Answer {
        if matches!(self.pipe, Pipe::Tls(_)) && self.waiting && self.push(requests).is_err() {
            return Answer::Bad;
        }
        let read = match &mut self.pipe {
            Pipe::Plain(stream) => stream.read(scratch),
            Pipe::Tls(stream) => stream.read(scratch),
        };
        let bytes = match read {
            Ok(0) => return Answer::Bad,
            Ok(count) => &scratch[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Answer::Partial,
            Err(_) => return Answer::Bad,
        };
        if !self.waiting {
            return Answer::Bad;
        }
        let answer = self.take(bytes, body);
        if answer != Answer::Partial {
            self.head.clear();
            self.body = None;
            self.waiting = false;
        }
        answer
    }

    fn take(&mut self, bytes: &[u8], body: &[u8]) -> Answer {
        if self.body.is_some() {
            return self.take_body(bytes, body);
        }
        if self.head.is_empty() {
            match head_end(bytes) {
                Some(end) => self.begin(&bytes[..end], &bytes[end..], body),
                None => {
                    self.head.extend_from_slice(bytes);
                    Answer::Partial
                }
            }
        } else {
            self.head.extend_from_slice(bytes);
            let head = std::mem::take(&mut self.head);
            match head_end(&head) {
                Some(end) => self.begin(&head[..end], &head[end..], body),
                None if head.len() > MOST_HEAD => Answer::Bad,
                None => {
                    self.head = head;
                    Answer::Partial
                }
            }
        }
    }

    fn begin(&mut self, head: &[u8], rest: &[u8], body: &[u8]) -> Answer {
        if !head.starts_with(b"HTTP/1.1 200") {
            return Answer::Bad;
        }
        self.body = Some(0);
        self.take_body(rest, body)
    }

    fn take_body(&mut self, bytes: &[u8], body: &[u8]) -> Answer {
        let have = self.body.unwrap_or(0);
        let end = have + bytes.len();
        if end > body.len() || bytes != &body[have..end] {
            return Answer::Bad;
        }
        self.body = Some(end);
        if end == body.len() { Answer::Good } else { Answer::Partial }
    }
}

/// The port is chosen at `connect`, where one that is taken for another peer will do.
fn late_port(socket: &socket2::Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value lives through the call and its size is given.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin;

    fn judge(pieces: &[&[u8]], body: &[u8]) -> Answer {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let mut caller = Caller::connect(address, None, None).expect("it listens");
        for piece in &pieces[..pieces.len() - 1] {
            assert_eq!(caller.take(piece, body), Answer::Partial);
        }
        caller.take(pieces[pieces.len() - 1], body)
    }

    #[test]
    fn only_the_whole_and_exact_answer_is_good() {
        let body = origin::body(512);
        let answer = origin::answer(&body);
        assert_eq!(judge(&[&answer], &body), Answer::Good);
        for end in 1..answer.len() {
            assert_eq!(judge(&[&answer[..end], &answer[end..]], &body), Answer::Good, "cut at {end}");
        }
        let mut longer = answer.clone();
        longer.push(b'x');
        assert_eq!(judge(&[&longer], &body), Answer::Bad);
        let mut changed = answer;
        *changed.last_mut().expect("the answer has a body") = b'#';
        assert_eq!(judge(&[&changed], &body), Answer::Bad);
        assert_eq!(judge(&[b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n"], &body), Answer::Bad);
    }
}
