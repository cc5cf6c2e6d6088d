//! The origins behind one proxy. They do for each case what was agreed for it,
//! and write down what they were asked. Those who are spoken to in HTTP/2 hand
//! the connection to `stage/streams.rs`.

mod streams;

use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::deed::{Deed, GARBAGE, Mishap};
use super::table::{End, ORIGINS};
use crate::harness::raw::{Closed, closed, reset};

/// Requests tell their case by this field.
pub const CASE: &str = "x-case";
/// Between the pieces of an answer.
const PAUSE: Duration = Duration::from_millis(8);
/// An origin gives up on a proxy that has been silent for so long.
const SILENCE: Duration = Duration::from_secs(20);

/// What an origin was asked.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub origin: String,
    pub method: String,
    pub target: String,
    pub version: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// The body came whole.
    pub whole: bool,
    /// The origin is done with it.
    done: bool,
}

impl Asked {
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.fields, name)
    }
}

pub type Fields = Vec<(String, String)>;

pub struct Stage {
    addresses: Vec<SocketAddr>,
    dead: Closed,
    notes: Arc<Notes>,
}

/// Where a request is written down: case and try.
type Note = (u64, usize);

#[derive(Default)]
struct Notes {
    /// What is to be done in each case, try by try; the last is repeated.
    deeds: Mutex<HashMap<u64, Vec<Deed>>>,
    asked: Mutex<HashMap<u64, Vec<Asked>>>,
    over: AtomicBool,
}

impl Stage {
    pub fn start() -> Stage {
        let notes = Arc::new(Notes::default());
        let addresses = (0..ORIGINS).map(|n| origin(format!("o{n}"), &notes)).collect();
        Stage { addresses, dead: closed(), notes }
    }

    pub fn address(&self, end: End) -> SocketAddr {
        match end {
            End::Origin(nth) => self.addresses[nth],
            End::Dead => self.dead.address,
        }
    }

    /// Agrees what is done in a case, and forgets what was asked in it before.
    pub fn agree(&self, case: u64, deeds: &[Deed]) {
        self.notes.deeds.lock().expect("no panic").insert(case, deeds.to_vec());
        self.notes.asked.lock().expect("no panic").remove(&case);
    }

    /// All that was asked in a case, when the origins are done with it.
    pub fn asked(&self, case: u64) -> Vec<Asked> {
        let deadline = Instant::now() + Duration::from_secs(3);
        loop {
            let asked = self.notes.asked.lock().expect("no panic").get(&case).cloned().unwrap_or_default();
            if asked.iter().all(|asked| asked.done) || Instant::now() > deadline {
                return asked;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Notes {
    /// Writes the request down; says where, and what is to be done.
    fn begin(&self, origin: &str, mut asked: Asked) -> (Note, Deed) {
        let case = field(&asked.fields, CASE).and_then(|text| text.parse().ok()).unwrap_or(0);
        origin.clone_into(&mut asked.origin);
        let mut all = self.asked.lock().expect("no panic");
        let tries = all.entry(case).or_default();
        tries.push(asked);
        let nth = tries.len() - 1;
        let deeds = self.deeds.lock().expect("no panic");
        let deeds = deeds.get(&case).map(Vec::as_slice).unwrap_or_default();
        let deed = deeds.get(nth).or(deeds.last()).cloned().unwrap_or_else(|| Deed::plain(200, 2));
        ((case, nth), deed)
    }

    fn write_down(&self, (case, nth): Note, act: impl FnOnce(&mut Asked)) {
        let mut all = self.asked.lock().expect("no panic");
        if let Some(asked) = all.get_mut(&case).and_then(|tries| tries.get_mut(nth)) {
            act(asked);
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.notes.over.store(true, Ordering::Relaxed);
        for address in &self.addresses {
            let _ = TcpStream::connect(address);
        }
    }
}

fn origin(name: String, notes: &Arc<Notes>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let notes = notes.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if notes.over.load(Ordering::Relaxed) {
                return;
            }
            let (name, notes) = (name.clone(), notes.clone());
            std::thread::spawn(move || {
                // Such a connection begins with `PRI`, which no request here does.
                let mut first = [0; 2];
                if stream.peek(&mut first).is_ok_and(|_| first == *b"PR") {
                    return streams::serve(name, notes, stream);
                }
                let mut seat = Seat { name, notes, stream, unread: Vec::new(), note: None };
                // An error means only that the proxy has left.
                let _ = seat.serve();
                seat.finish();
            });
        }
    });
    address
}

/// One connection of an origin.
struct Seat {
    name: String,
    notes: Arc<Notes>,
    stream: TcpStream,
    unread: Vec<u8>,
    note: Option<Note>,
}

impl Seat {
    fn serve(&mut self) -> Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_read_timeout(Some(SILENCE))?;
        self.stream.set_write_timeout(Some(SILENCE))?;
        while let Some(asked) = self.read_head()? {
            let method = asked.method.clone();
            let fields = asked.fields.clone();
            let deed = self.begin(asked);
            let at_once =
                matches!(deed.mishap, Some(Mishap::ResetAtOnce | Mishap::CloseAtOnce | Mishap::Early));
            if !at_once {
                self.read_body(&fields)?;
            }
            if !self.answer(&deed, &method)? {
                return Ok(());
            }
            if deed.mishap == Some(Mishap::Early) {
                self.read_body(&fields)?;
            }
            self.finish();
            let lasting = matches!(deed.mishap, Some(Mishap::Garbage(_) | Mishap::Excess));
            if deed.ends_by_close(&method) && !lasting {
                return Ok(());
            }
        }
        Ok(())
    }

    fn begin(&mut self, asked: Asked) -> Deed {
        let (note, deed) = self.notes.begin(&self.name, asked);
        self.note = Some(note);
        deed
    }

    fn write_down(&mut self, act: impl FnOnce(&mut Asked)) {
        if let Some(note) = self.note {
            self.notes.write_down(note, act);
        }
    }

    fn finish(&mut self) {
        self.write_down(|asked| asked.done = true);
        self.note = None;
    }

    /// False when the connection is at its end.
    fn answer(&mut self, deed: &Deed, method: &str) -> Result<bool> {
        let head = deed.head(&self.name);
        let body = if deed.has_body(method) { deed.framed() } else { Vec::new() };
        let half = &body[..body.len() / 2];
        let nothing_to_break = half.is_empty()
            && matches!(
                deed.mishap,
                Some(Mishap::ResetAmidBody | Mishap::CloseAmidBody | Mishap::StallAmidBody)
            );
        let end = match deed.mishap {
            None | Some(Mishap::Early) => {
                return self.pace(&[head, body].concat(), deed.pieces).map(|()| true);
            }
            Some(_) if nothing_to_break => {
                return self.pace(&[head, body].concat(), deed.pieces).map(|()| true);
            }
            Some(Mishap::Excess) => {
                self.stream.write_all(&[&head[..], &body, b"and more than was said"].concat())?;
                return Ok(true);
            }
            Some(Mishap::ResetAtOnce | Mishap::ResetUnanswered) => Exit::Reset,
            Some(Mishap::CloseAtOnce | Mishap::CloseUnanswered) => Exit::Close,
            Some(Mishap::CloseAmidHead) => {
                self.stream.write_all(&head[..head.len() / 2])?;
                Exit::Close
            }
            Some(Mishap::ResetAmidBody | Mishap::CloseAmidBody) => {
                self.stream.write_all(&[&head[..], half].concat())?;
                std::thread::sleep(PAUSE * 4);
                if deed.mishap == Some(Mishap::ResetAmidBody) { Exit::Reset } else { Exit::Close }
            }
            Some(Mishap::Stall) => Exit::Silence,
            Some(Mishap::StallAmidBody) => {
                self.stream.write_all(&[&head[..], half].concat())?;
                Exit::Silence
            }
            Some(Mishap::Garbage(nth)) => {
                // Not closed: whoever takes it for an answer may ask on.
                let mark = format!("\r\nx-origin: {}\r\n", self.name);
                self.stream.write_all(GARBAGE[nth].replacen("\r\n", &mark, 1).as_bytes())?;
                return Ok(true);
            }
        };
        self.finish();
        match end {
            Exit::Reset => reset(self.stream.try_clone()?),
            Exit::Close => {}
            Exit::Silence => while self.fill()? > 0 {},
        }
        Ok(false)
    }

    fn pace(&mut self, bytes: &[u8], pieces: usize) -> Result<()> {
        let size = bytes.len().div_ceil(pieces).max(1);
        for (n, piece) in bytes.chunks(size).enumerate() {
            if n > 0 {
                std::thread::sleep(PAUSE);
            }
            self.stream.write_all(piece)?;
        }
        Ok(())
    }

    fn read_head(&mut self) -> Result<Option<Asked>> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Ok(Some(parse(&head[..end])));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    fn read_body(&mut self, fields: &[(String, String)]) -> Result<()> {
        if let Some(length) = field(fields, "content-length").and_then(|text| text.parse::<usize>().ok()) {
            while self.unread.len() < length {
                if self.fill()? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            let body: Vec<u8> = self.unread.drain(..length).collect();
            self.write_down(|asked| asked.body = body);
        } else if field(fields, "transfer-encoding").is_some() {
            let (body, trailers) = self.read_chunks()?;
            self.write_down(|asked| (asked.body, asked.trailers) = (body, trailers));
        }
        self.write_down(|asked| asked.whole = true);
        Ok(())
    }

    fn read_chunks(&mut self) -> Result<(Vec<u8>, Fields)> {
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            if size == 0 {
                break;
            }
            while self.unread.len() < size + 2 {
                if self.fill()? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((body, trailers));
            }
            trailers.push(pair(&line));
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(latin(&line[..end]));
            }
            if self.fill()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn fill(&mut self) -> Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.unread.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

enum Exit {
    Reset,
    Close,
    Silence,
}

fn parse(head: &[u8]) -> Asked {
    let text = latin(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().splitn(3, ' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (method, target, version) = (word(), word(), word());
    let fields = lines.map(pair).collect();
    Asked { method, target, version, fields, ..Asked::default() }
}

fn pair(line: impl AsRef<str>) -> (String, String) {
    let (name, value) = line.as_ref().split_once(':').unwrap_or((line.as_ref(), "?"));
    (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
}

fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Each byte a letter, so that nothing is lost.
pub fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

pub fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
