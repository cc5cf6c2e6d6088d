//! Says a talk to a proxy and writes down all that a client can see of it.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::deed::{Deed, GARBAGE, Mishap};
use super::request::{Case, Protocol, Talk};
use super::seen::{Ending, Seen};
use super::stage::{Stage, find, latin};
use crate::harness::h2::H2;
use crate::harness::{Ask, PATIENCE};

/// How long an answer may take that both proxies should give by then.
const SILENCE: Duration = Duration::from_secs(12);
/// A connection that nobody said would close has so long to do so all the same.
const AFTERMATH: Duration = Duration::from_millis(25);

/// The whole talk; what each request came to, also at the origins.
pub fn say(talk: &Talk, to: SocketAddr, stage: &Stage) -> Vec<Seen> {
    for case in &talk.cases {
        stage.agree(case.id, &case.deeds);
    }
    let mut seen = match talk.protocol {
        Protocol::Http1 => over_http1(talk, to, stage),
        Protocol::Http2 => over_http2(talk, to),
    };
    for (seen, case) in seen.iter_mut().zip(&talk.cases) {
        seen.asked = stage.asked(case.id);
    }
    seen
}

fn over_http2(talk: &Talk, to: SocketAddr) -> Vec<Seen> {
    let mut h2 = H2::open(to);
    let mut all = Vec::new();
    for case in &talk.cases {
        let request = &case.request;
        let mut ask = Ask::new(&request.method, &request.target).host(request.host());
        for (name, value) in &request.fields[1..] {
            ask = ask.header(&name.to_ascii_lowercase(), value.trim());
        }
        ask = ask.header(super::stage::CASE, &case.id.to_string());
        let content = request.content();
        if !content.is_empty() {
            ask = ask.body(content);
        }
        let mut seen = Seen::default();
        match h2.try_ask(&ask) {
            Ok(reply) => {
                seen.status = Some(reply.status);
                seen.fields = reply.headers;
                seen.body = reply.body;
                seen.trailers = reply.trailers;
                seen.ending = Ending::Whole;
            }
            Err(_) => {
                seen.ending = Ending::Reset;
                // It may have been the whole connection.
                h2 = H2::open(to);
            }
        }
        all.push(seen);
    }
    all
}

fn over_http1(talk: &Talk, to: SocketAddr, stage: &Stage) -> Vec<Seen> {
    let mut all: Vec<Seen> = Vec::new();
    let mut wire: Option<Wire> = None;
    for case in &talk.cases {
        let kept = wire.is_some();
        let mut open = wire.take().unwrap_or_else(|| Wire::open(to));
        let mut seen = open.ask(case);
        // Closed without a word after the last answer: seen only now. Where the
        // origin's body is wrong from its first byte on, it may be for that.
        let wrong = |deed: &Deed| matches!(deed.mishap, Some(Mishap::Garbage(nth)) if GARBAGE[nth].contains("\nzz\r\n"));
        if kept && seen.ending == Ending::Nothing && !case.deeds.iter().any(wrong) {
            if let Some(last) = all.last_mut() {
                last.closed = true;
            }
            open = Wire::open(to);
            stage.agree(case.id, &case.deeds);
            seen = open.ask(case);
        }
        if seen.fields.iter().any(|(name, value)| name == "connection" && value.contains("close")) {
            seen.closed = open.closes_within(PATIENCE / 6);
        }
        // Whether HTTP/1.0 lives on is not compared, so it is not relied on.
        if !seen.closed && seen.ending == Ending::Whole && case.request.minor == 1 {
            wire = Some(open);
        } else {
            seen.closed = true;
        }
        all.push(seen);
    }
    if let (Some(mut wire), Some(last)) = (wire, all.last_mut()) {
        last.closed = wire.closes_within(AFTERMATH);
    }
    all
}

struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    fn open(to: SocketAddr) -> Wire {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("the proxy accepts");
        stream.set_nodelay(true).expect("a socket can be made so");
        stream.set_read_timeout(Some(SILENCE)).expect("a legal timeout");
        stream.set_write_timeout(Some(SILENCE)).expect("a legal timeout");
        Wire { stream, unread: Vec::new() }
    }

    fn ask(&mut self, case: &Case) -> Seen {
        let mut seen = Seen::default();
        // A proxy that has closed is told by what can be read.
        let _ = self.send(case, &mut seen);
        if seen.status.is_none() {
            seen.ending = self.answer(case, &mut seen).unwrap_or_else(|error| ending(&error, &seen));
        }
        seen
    }

    fn send(&mut self, case: &Case, seen: &mut Seen) -> Result<()> {
        let request = &case.request;
        let (head, body) = (request.head(case.id), request.framed());
        if request.expects {
            self.stream.write_all(&head)?;
            loop {
                match self.head(seen) {
                    Ok(Some(100)) => {
                        seen.interim.push(100);
                        return self.stream.write_all(&body);
                    }
                    Ok(Some(status @ 102..=199)) => {
                        seen.interim.push(status);
                        seen.fields.clear();
                        continue;
                    }
                    Ok(Some(status)) => {
                        seen.status = Some(status);
                        seen.ending = self.body(case, seen).unwrap_or_else(|error| ending(&error, seen));
                    }
                    Ok(None) => {}
                    Err(error) => seen.ending = ending(&error, seen),
                }
                return Ok(());
            }
        }
        let all = [head, body].concat();
        let cut = request.cut.unwrap_or(0).min(all.len());
        if cut > 0 {
            self.stream.write_all(&all[..cut])?;
            std::thread::sleep(Duration::from_millis(4));
        }
        self.stream.write_all(&all[cut..])
    }

    fn answer(&mut self, case: &Case, seen: &mut Seen) -> Result<Ending> {
        loop {
            match self.head(seen)? {
                None => return Ok(Ending::Nothing),
                Some(status @ 100..=199) if status != 101 => {
                    seen.interim.push(status);
                    seen.fields.clear();
                }
                Some(status) => {
                    seen.status = Some(status);
                    return self.body(case, seen);
                }
            }
        }
    }

    /// The status, and the fields into `seen`.
    fn head(&mut self, seen: &mut Seen) -> Result<Option<u16>> {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break end;
            }
            if self.fill()? == 0 {
                seen.garbled = !self.unread.is_empty();
                return Ok(None);
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let text = latin(&head[..end]);
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = ["HTTP/1.1 ", "HTTP/1.0 "]
            .iter()
            .find_map(|version| first.strip_prefix(version)?.get(..3)?.parse().ok());
        seen.garbled = status.is_none();
        seen.fields = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, "?"));
                (name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect();
        Ok(status)
    }

    fn body(&mut self, case: &Case, seen: &mut Seen) -> Result<Ending> {
        let status = seen.status.unwrap_or_default();
        let head = case.request.odd.is_none() && case.request.method == "HEAD";
        if head || matches!(status, 101 | 204 | 304) {
            return Ok(Ending::Whole);
        }
        let field =
            |name: &str| seen.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        if field("transfer-encoding").is_some() {
            return self.chunks(seen);
        }
        if let Some(length) = field("content-length").and_then(|text| text.parse::<usize>().ok()) {
            while self.unread.len() < length {
                if self.fill()? == 0 {
                    return Ok(Ending::Cut);
                }
            }
            seen.body = self.unread.drain(..length).collect();
            return Ok(Ending::Whole);
        }
        while self.fill()? > 0 {}
        seen.body = std::mem::take(&mut self.unread);
        seen.closed = true;
        Ok(Ending::Whole)
    }

    fn chunks(&mut self, seen: &mut Seen) -> Result<Ending> {
        loop {
            let Some(line) = self.line()? else { return Ok(Ending::Cut) };
            let Ok(size) = usize::from_str_radix(line.trim(), 16) else {
                seen.garbled = true;
                return Ok(Ending::Cut);
            };
            if size == 0 {
                break;
            }
            while self.unread.len() < size + 2 {
                if self.fill()? == 0 {
                    return Ok(Ending::Cut);
                }
            }
            seen.body.extend(self.unread.drain(..size));
            self.unread.drain(..2);
        }
        loop {
            let Some(line) = self.line()? else { return Ok(Ending::Cut) };
            match line.split_once(':') {
                _ if line.is_empty() => return Ok(Ending::Whole),
                Some((name, value)) => {
                    seen.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
                None => seen.garbled = true,
            }
        }
    }

    fn line(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..end + 2).collect();
                return Ok(Some(latin(&line[..end])));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> Result<usize> {
        let mut chunk = [0; 32 * 1024];
        let count = loop {
            match self.stream.read(&mut chunk) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.unread.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn closes_within(&mut self, time: Duration) -> bool {
        let _ = self.stream.set_read_timeout(Some(time));
        loop {
            match self.fill() {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        }
    }
}

fn ending(error: &std::io::Error, seen: &Seen) -> Ending {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Ending::Silence,
        _ if seen.status.is_some() => Ending::Cut,
        _ => Ending::Nothing,
    }
}
