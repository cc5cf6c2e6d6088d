//! A server that answers each request head with bytes as a test wrote them, so
//! that it can say what no library would, in the pieces that the test wants.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

type Say = Arc<dyn Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync>;

/// A running server.
pub struct Script {
    pub address: SocketAddr,
    accepted: Arc<AtomicU64>,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl Script {
    /// Says the same to every head, and keeps the connection.
    pub fn saying(bytes: &'static [u8]) -> Script {
        Script::start(move |_, stream| stream.write_all(bytes))
    }

    /// `say` gets each head; an error of its ends the connection.
    pub fn start(
        say: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Script {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let say: Say = Arc::new(say);
        let (accepted, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let script = Script { address, accepted: accepted.clone(), heads: heads.clone(), stop: stop.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                accepted.fetch_add(1, Ordering::Relaxed);
                let (say, heads) = (say.clone(), heads.clone());
                // An error only means that the proxy left, or that the test wants it so.
                std::thread::spawn(move || drop(converse(stream, &say, &heads)));
            }
        });
        script
    }

    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The heads that came, oldest first.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no holder panics").clone()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn converse(mut stream: TcpStream, say: &Say, heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte)? == 0 {
                return Ok(());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        heads.lock().expect("no holder panics").push(head.clone());
        say(&head, &mut stream)?;
    }
}
