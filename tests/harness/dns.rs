//! A name server whose answers a test writes, over UDP and, for what does not
//! fit there, over TCP. It reads and writes packets by itself.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is said of a name.
#[derive(Clone, Debug)]
pub enum Says {
    /// These addresses, to be kept for so many seconds; those of the other family are none.
    Addresses(Vec<IpAddr>, u32),
    NoSuchName,
    /// Cannot say.
    Failure,
    Nothing,
}

impl Says {
    /// `127.0.0.x` for each of these.
    pub fn loopback(last: &[u8], ttl: u32) -> Says {
        Says::Addresses(last.iter().map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, *last))).collect(), ttl)
    }
}

/// An answer that is longer is cut off over UDP.
const MOST_UDP: usize = 512;
const A: u16 = 1;
const AAAA: u16 = 28;

#[derive(Default)]
struct Shared {
    names: Mutex<HashMap<String, Says>>,
    asked: Mutex<HashMap<(String, u16), u64>>,
    over_tcp: AtomicU64,
    stop: AtomicBool,
}

pub struct NameServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServer {
    pub fn start() -> NameServer {
        let (udp, tcp) = (0..100).find_map(|_| pair()).expect("loopback has a port free for both");
        let address = udp.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let (one, two) = (shared.clone(), shared.clone());
        let threads = vec![
            std::thread::spawn(move || datagrams(&udp, &one)),
            std::thread::spawn(move || streams(&tcp, &two)),
        ];
        NameServer { address, shared, threads }
    }

    /// From the next question on.
    pub fn say(&self, name: &str, says: Says) {
        self.shared.names.lock().expect("no holder panics").insert(name.to_owned(), says);
    }

    /// Questions for this name's addresses, IPv4 and IPv6.
    pub fn asked(&self, name: &str) -> (u64, u64) {
        let asked = self.shared.asked.lock().expect("no holder panics");
        let of = |kind| asked.get(&(name.to_owned(), kind)).copied().unwrap_or(0);
        (of(A), of(AAAA))
    }

    pub fn over_tcp(&self) -> u64 {
        self.shared.over_tcp.load(Ordering::Relaxed)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn pair() -> Option<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
    let tcp = TcpListener::bind(udp.local_addr().ok()?).ok()?;
    udp.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    tcp.set_nonblocking(true).ok()?;
    Some((udp, tcp))
}

fn datagrams(socket: &UdpSocket, shared: &Shared) {
    let mut packet = [0; 4096];
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        if let Some(mut answer) = answer(&packet[..length], shared) {
            if answer.len() > MOST_UDP {
                // No records, and the flag that says so.
                answer.truncate(question_end(&packet[..length]).expect("it was answered"));
                answer[2] |= 2;
                answer[6..12].fill(0);
            }
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn streams(listener: &TcpListener, shared: &Shared) {
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            continue;
        }
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut packet).is_err() {
            continue;
        }
        if let Some(answer) = answer(&packet, shared) {
            shared.over_tcp.fetch_add(1, Ordering::Relaxed);
            let length = u16::try_from(answer.len()).expect("tests stay below 64 KiB").to_be_bytes();
            let _ = stream.write_all(&[&length[..], &answer].concat());
        }
    }
}

/// Where the only question ends.
fn question_end(packet: &[u8]) -> Option<usize> {
    let mut at = 12;
    while *packet.get(at)? != 0 {
        at += usize::from(packet[at]) + 1;
    }
    (packet.len() >= at + 5).then_some(at + 5)
}

fn answer(packet: &[u8], shared: &Shared) -> Option<Vec<u8>> {
    let end = question_end(packet)?;
    let mut labels = Vec::new();
    let mut at = 12;
    while packet[at] != 0 {
        let next = at + 1 + usize::from(packet[at]);
        labels.push(String::from_utf8_lossy(&packet[at + 1..next]).to_ascii_lowercase());
        at = next;
    }
    let name = labels.join(".");
    let kind = u16::from_be_bytes([packet[end - 4], packet[end - 3]]);
    *shared.asked.lock().expect("no holder panics").entry((name.clone(), kind)).or_default() += 1;
    let says = shared.names.lock().expect("no holder panics").get(&name).cloned();
    let (code, addresses, ttl) = match says.unwrap_or(Says::NoSuchName) {
        Says::Nothing => return None,
        Says::Failure => (2, Vec::new(), 0),
        Says::NoSuchName => (3, Vec::new(), 0),
        Says::Addresses(addresses, ttl) => (0, addresses, ttl),
    };
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|address| match (kind, address) {
            (A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
            (AAAA, IpAddr::V6(address)) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut out = packet[..end].to_vec();
    // A response to a recursive question, by one who knows.
    out[2] = 0x84 | (packet[2] & 1);
    out[3] = 0x80 | code;
    let count = u16::try_from(records.len()).expect("tests stay below 64 Ki").to_be_bytes();
    out[4..12].copy_from_slice(&[0, 1, count[0], count[1], 0, 0, 0, 0]);
    for data in records {
        out.extend([0xc0, 12]);
        out.extend(kind.to_be_bytes());
        out.extend([0, 1]);
        out.extend(ttl.to_be_bytes());
        out.extend(u16::try_from(data.len()).expect("an address is short").to_be_bytes());
        out.extend(data);
    }
    Some(out)
}
