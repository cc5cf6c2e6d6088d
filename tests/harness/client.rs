//! A blocking HTTP/1.1 client of our own over a plain socket: it can send what
//! no library would, and it reads answers by a parser that is not the proxy's.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// A request to be written.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: String,
    pub path: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
}

impl Ask {
    pub fn new(method: &str, path: &str) -> Ask {
        Ask {
            method: method.into(),
            path: path.into(),
            host: "test.local".into(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn get(path: &str) -> Ask {
        Ask::new("GET", path)
    }

    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Ask {
        Ask::new("POST", path).body(body)
    }

    pub fn host(mut self, host: &str) -> Ask {
        self.host = host.into();
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Ask {
        self.body = Some(body.into());
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.path, self.host);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            text += &format!("content-length: {}\r\n", body.len());
        }
        let mut bytes = (text + "\r\n").into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default());
        bytes
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        field(&self.headers, name)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        field(&self.trailers, name)
    }

    /// Which origin of the test answered.
    pub fn origin(&self) -> &str {
        self.header("x-origin").unwrap_or("none")
    }

    pub fn cause(&self) -> &str {
        self.header("x-serin-cause").unwrap_or("none")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}), status {}: {}", self.status, self.text()))
    }
}

/// The first field of that name, whatever its case.
pub fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// One connection, kept alive from request to request; in the clear, or over what
/// is given.
pub struct Conn<S = TcpStream> {
    pub stream: S,
    unread: Vec<u8>,
}

impl Conn {
    pub fn open(to: SocketAddr) -> Conn {
        Conn::try_open(to).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"))
    }

    pub fn try_open(to: SocketAddr) -> Result<Conn> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Conn { stream, unread: Vec::new() })
    }

    /// Ends the connection with a reset instead of a good-bye.
    pub fn reset(self) {
        super::raw::reset(self.stream);
    }
}

impl<S: Read + Write> Conn<S> {
    pub fn over(stream: S) -> Conn<S> {
        Conn { stream, unread: Vec::new() }
    }

    pub fn get(&mut self, path: &str) -> Reply {
        self.ask(&Ask::get(path))
    }

    /// Sends and reads the whole answer; a broken connection fails the test.
    pub fn ask(&mut self, ask: &Ask) -> Reply {
        self.try_ask(ask).unwrap_or_else(|error| panic!("{} {} failed: {error}", ask.method, ask.path))
    }

    pub fn try_ask(&mut self, ask: &Ask) -> Result<Reply> {
        self.stream.write_all(&ask.bytes())?;
        self.read_reply(&ask.method)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the proxy reads what it is sent");
    }

    /// The final answer; interim ones are passed over.
    pub fn read_reply(&mut self, method: &str) -> Result<Reply> {
        let mut reply = self.read_head()?;
        while (100..200).contains(&reply.status) {
            reply = self.read_head()?;
        }
        self.read_body(method, &mut reply)?;
        Ok(reply)
    }

    /// One head, interim or final.
    pub fn read_head(&mut self) -> Result<Reply> {
        let first = self.line()?;
        let mut words = first.split(' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        match status {
            Some(status) if version.starts_with("HTTP/1.") => {
                Ok(Reply { status, headers: self.fields()?, ..Reply::default() })
            }
            _ => Err(Error::new(ErrorKind::InvalidData, format!("no status line: {first:?}"))),
        }
    }

    pub fn read_body(&mut self, method: &str, reply: &mut Reply) -> Result<()> {
        if method == "HEAD" || reply.status == 204 || reply.status == 304 {
            return Ok(());
        }
        if reply.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(reply);
        }
        match reply.header("content-length").map(|value| value.parse::<usize>()) {
            Some(Ok(length)) => reply.body = self.exactly(length)?,
            Some(Err(error)) => return Err(Error::new(ErrorKind::InvalidData, error)),
            None => {
                while self.fill()? > 0 {}
                reply.body = std::mem::take(&mut self.unread);
            }
        }
        Ok(())
    }

    fn read_chunks(&mut self, reply: &mut Reply) -> Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size =
                usize::from_str_radix(size, 16).map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            if size == 0 {
                reply.trailers = self.fields()?;
                return Ok(());
            }
            reply.body.extend(self.exactly(size)?);
            self.line()?;
        }
    }

    fn fields(&mut self) -> Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(Error::new(ErrorKind::InvalidData, format!("no field: {line:?}")));
            };
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned());
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.unread.len() < length {
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.unread.drain(..length).collect())
    }

    fn fill(&mut self) -> Result<usize> {
        let mut chunk = [0; 64 * 1024];
        let count = loop {
            match self.stream.read(&mut chunk) {
                // A signal to this process, as when a child of another test stops.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.unread.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    /// True when the other side has closed, by end of stream or by reset;
    /// waits for it as long as patience lasts.
    pub fn is_closed_by_peer(&mut self) -> bool {
        loop {
            match self.fill() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }
}

/// One request on a connection of its own.
pub fn once(to: SocketAddr, ask: &Ask) -> Reply {
    Conn::open(to).ask(ask)
}
