//! An upstream that keeps every complete request as the bytes that came, and
//! otherwise does as it is told.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub struct Recorder {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Vec<u8>>>,
    /// Instead of the good answer, with a close behind it.
    answers: Mutex<VecDeque<Vec<u8>>>,
}

impl Recorder {
    pub fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = served.clone();
                // An error only means that the proxy has left.
                std::thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Recorder { address, shared }
    }

    pub fn requests(&self) -> Vec<Vec<u8>> {
        self.shared.requests.lock().expect("no holder panics").clone()
    }

    pub fn forget(&self) {
        self.shared.requests.lock().expect("no holder panics").clear();
    }

    pub fn answer_next(&self, bytes: &[u8]) {
        self.shared.answers.lock().expect("no holder panics").push_back(bytes.to_vec());
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        loop {
            let length = loop {
                if let Some(length) = whole(&bytes) {
                    break length;
                }
                let mut more = [0; 4096];
                let count = stream.read(&mut more)?;
                if count == 0 {
                    return Ok(());
                }
                bytes.extend_from_slice(&more[..count]);
            };
            let request: Vec<u8> = bytes.drain(..length).collect();
            let told = match request.starts_with(b"GET /asked ") {
                true => self.answers.lock().expect("no holder panics").pop_front(),
                false => None,
            };
            self.requests.lock().expect("no holder panics").push(request);
            match told {
                Some(answer) => {
                    stream.write_all(&answer)?;
                    return Ok(());
                }
                None => stream.write_all(OK)?,
            }
        }
    }
}

/// How long the first message is, read as the laxest server would.
fn whole(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    if head.contains("chunked") {
        let last = bytes[end..].windows(5).position(|window| window == b"0\r\n\r\n")?;
        return Some(end + last + 5);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
    (bytes.len() >= end + length).then_some(end + length)
}
