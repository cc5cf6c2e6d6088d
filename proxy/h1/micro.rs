//! Reading and writing heads, one at a time, for the bench.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::net::SocketAddr;

use crate::h1::request;
use crate::h1::response;
use crate::h1::response::Additions;
use crate::h1::scan::Fields;
use crate::head::Head;
use crate::rewrite::Peer;

/// Does something with a head as routing sees it; none for one that is irregular.
pub fn with_head<T>(head: &[u8], act: impl FnOnce(&Head<'_>) -> T) -> Option<T> {
    let mut memory = Fields::new();
    let read = request::parse(head, &mut memory).ok()?;
    Some(act(&Head::of_list(read.method, read.target, read.host, read.fields.list())))
}

/// Reads a request's head. False: it is not whole and regular.
pub fn read_request(head: &[u8], times: u64) -> bool {
    let mut regular = true;
    for _ in 0..times {
        let bytes = black_box(head);
        let mut memory = Fields::new();
        regular &= request::is_whole(bytes) && request::parse(bytes, &mut memory).is_ok();
    }
    regular
}

/// Writes a request's head as the upstream gets it; `out` ends with one.
pub fn write_request(head: &[u8], times: u64, out: &mut Vec<u8>) -> bool {
    let mut memory = Fields::new();
    let Ok(read) = request::parse(head, &mut memory) else { return false };
    let peer = Peer::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), None);
    for time in 0..times {
        out.clear();
        read.write(black_box(&peer), || [time, 2], out);
    }
    true
}

/// Reads an answer's head and writes it as the client gets it; `out` ends with one.
pub fn relay_answer(head: &[u8], times: u64, out: &mut Vec<u8>) -> bool {
    let date = || "Thu, 01 Jan 2026 00:00:00 GMT".to_owned();
    let additions = Additions { service_time_us: 1_000, set_cookies: &[], close: false, date, server: None };
    let mut whole = true;
    for _ in 0..times {
        out.clear();
        whole &= matches!(response::relay(black_box(head), false, &additions, out), Ok(Some(_)));
    }
    whole
}
