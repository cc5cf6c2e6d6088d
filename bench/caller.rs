//! One keep-alive connection of the load: a request out, the answer checked to the last byte,
//! the next request. It keeps no time; closed-loop latency at saturation says nothing.

use std::io;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::time::Duration;

use crate::origin::head_end;

/// The request: four fields and a cookie.
pub const REQUEST: &[u8] = b"GET /products/42?view=full HTTP/1.1\r\nhost: shop.example.com\r\n\
    user-agent: serin-bench/1\r\naccept: application/json\r\naccept-encoding: gzip, br\r\n\
    cookie: sid=3f9c2a71d0b84e55; theme=dark\r\n\r\n";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Caller {
    stream: TcpStream,
    held: Vec<u8>,
    pub waiting: bool,
}

#[derive(Debug, PartialEq)]
pub enum Answer {
    Good,
    Partial,
    Bad,
}

impl Caller {
    pub fn connect(address: SocketAddr) -> io::Result<Caller> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Caller { stream, held: Vec::new(), waiting: false })
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send(&mut self) -> io::Result<()> {
        self.waiting = true;
        self.stream.write_all(REQUEST)
    }

    /// Reads what came. Anything but the origin's own answer is bad, and so is an end of stream.
    pub fn receive(&mut self, scratch: &mut [u8], body: &[u8]) -> Answer {
        let bytes = match self.stream.read(scratch) {
            Ok(0) => return Answer::Bad,
            Ok(count) => &scratch[..count],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Answer::Partial,
            Err(_) => return Answer::Bad,
        };
        if !self.waiting {
            return Answer::Bad;
        }
        let answer = if self.held.is_empty() {
            judge(bytes, body)
        } else {
            self.held.extend_from_slice(bytes);
            judge(&self.held, body)
        };
        match answer {
            Answer::Partial if self.held.is_empty() => self.held.extend_from_slice(bytes),
            Answer::Partial => {}
            Answer::Good | Answer::Bad => {
                self.held.clear();
                self.waiting = false;
            }
        }
        answer
    }
}

fn judge(bytes: &[u8], body: &[u8]) -> Answer {
    let Some(start) = head_end(bytes) else { return Answer::Partial };
    if !bytes.starts_with(b"HTTP/1.1 200") {
        return Answer::Bad;
    }
    match bytes.len() - start {
        received if received < body.len() => Answer::Partial,
        received if received == body.len() && &bytes[start..] == body => Answer::Good,
        _ => Answer::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin;

    #[test]
    fn only_the_whole_and_exact_answer_is_good() {
        let (answer, body) = (origin::answer(), origin::body());
        assert_eq!(judge(&answer, &body), Answer::Good);
        for end in 0..answer.len() {
            assert_eq!(judge(&answer[..end], &body), Answer::Partial, "cut at {end}");
        }
        let mut longer = answer.clone();
        longer.push(b'x');
        assert_eq!(judge(&longer, &body), Answer::Bad);
        let mut changed = answer;
        *changed.last_mut().expect("the answer has a body") = b'#';
        assert_eq!(judge(&changed, &body), Answer::Bad);
        assert_eq!(judge(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", &body), Answer::Bad);
    }
}
