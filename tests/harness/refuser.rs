//! An HTTP/2 server that turns streams away: it says of some of them that it has
//! not taken them, and answers the others.

use std::io::{Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::frames::{ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const REFUSED_STREAM: u32 = 7;
/// `:status: 200` in HPACK.
const OK: u8 = 0x88;

#[derive(Clone, Copy, Debug)]
pub enum Refusal {
    Reset,
    /// With a GOAWAY that takes no stream at all.
    GoAway,
}

/// A running server that refuses the first so many streams it sees.
pub struct Refuser {
    pub address: SocketAddr,
    seen: Arc<AtomicU64>,
}

impl Refuser {
    pub fn start(refusal: Refusal, first: u64) -> Refuser {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let seen = Arc::new(AtomicU64::new(0));
        let count = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = count.clone();
                // An error here only means that the proxy left first.
                std::thread::spawn(move || drop(serve(stream, refusal, first, &count)));
            }
        });
        Refuser { address, seen }
    }

    /// Streams that were begun.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, refusal: Refusal, first: u64, count: &AtomicU64) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        match head[3] {
            SETTINGS if head[4] & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            PING if head[4] & ACK == 0 => stream.write_all(&frame(PING, ACK, 0, &payload))?,
            HEADERS if count.fetch_add(1, Ordering::Relaxed) < first => match refusal {
                Refusal::Reset => {
                    stream.write_all(&frame(RST_STREAM, 0, id, &REFUSED_STREAM.to_be_bytes()))?;
                }
                Refusal::GoAway => {
                    stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8]))?;
                    return Ok(());
                }
            },
            HEADERS => stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, &[OK]))?,
            _ => {}
        }
    }
}
