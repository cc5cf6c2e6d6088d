//! The PROXY protocol at the front of a connection: read from those who may say
//! who their client is, and said to endpoints that ask for it.
//!
//! Nothing is taken from the socket before it is known to be the header's, so
//! that a connection without one goes on as if nobody had looked.

#[cfg(any(test, fuzzing))]
pub mod fuzz;

use std::io;
use std::io::Read;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use proxy_header::Error;
use proxy_header::ParseConfig;
use proxy_header::ProxiedAddress;
use proxy_header::ProxyHeader as Header;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::model::ProxyHeader;
use crate::model::ProxyProtocol;

/// A header may be this long, all that it adds to the addresses included.
const MOST_BYTES: usize = 4096;
/// The longest header of version 1, its line ending included (PROXY protocol, 2.1).
const MOST_BYTES_V1: usize = 107;
const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The two ends of a connection as the client has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

/// What the beginning of a connection is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// So many bytes that speak of these ends, or of the connection as it is.
    Header(usize, Option<Ends>),
    Nothing,
    Unknown,
}

/// The ends of the connection, as its header says or as they are. May wait for
/// ever: who calls has a deadline.
pub async fn read(stream: &TcpStream, policy: &ProxyProtocol, ends: Ends) -> io::Result<Ends> {
    let ip = ends.client.ip().to_canonical();
    let trusted = policy.trusted.is_empty() || policy.trusted.iter().any(|network| network.contains(&ip));
    if !trusted {
        return if policy.required { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(ends) };
    }
    let mut bytes = [MaybeUninit::uninit(); MOST_BYTES];
    let found = stream
        .async_io(Interest::READABLE, || {
            let count = SockRef::from(stream).peek(&mut bytes)?;
            // SAFETY: peek has written the first `count` bytes.
            let seen = unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<u8>(), count) };
            match inspect(seen)? {
                Found::Unknown if count == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
                // Asked again when more has come.
                Found::Unknown => Err(io::ErrorKind::WouldBlock.into()),
                found => Ok(found),
            }
        })
        .await?;
    match found {
        Found::Header(length, said) => {
            let mut taken = [0; MOST_BYTES];
            (&*SockRef::from(stream)).read_exact(&mut taken[..length])?;
            Ok(said.unwrap_or(ends))
        }
        _ if policy.required => Err(io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")),
        _ => Ok(ends),
    }
}

fn inspect(seen: &[u8]) -> io::Result<Found> {
    let begins = |signature: &[u8]| {
        let common = seen.len().min(signature.len());
        seen[..common] == signature[..common]
    };
    if !begins(V1) && !begins(V2) {
        return Ok(Found::Nothing);
    }
    if seen.len() < V1.len() || (!begins(V1) && seen.len() < V2.len()) {
        return Ok(Found::Unknown);
    }
    let broken = |what| io::Error::new(io::ErrorKind::InvalidData, what);
    // What a header may be must not depend on how much of it has come.
    let most = if begins(V1) { MOST_BYTES_V1 } else { MOST_BYTES };
    let seen = &seen[..seen.len().min(most)];
    match Header::parse(seen, ParseConfig::default()) {
        Ok((header, length)) => Ok(Found::Header(length, header.proxied_address().map(ends_of))),
        Err(Error::BufferTooShort) if seen.len() < most => Ok(Found::Unknown),
        Err(Error::BufferTooShort) => Err(broken("a PROXY header without end")),
        Err(_) => Err(broken("a broken PROXY header")),
    }
}

fn ends_of(address: &ProxiedAddress) -> Ends {
    Ends { client: address.source, local: address.destination }
}

/// The header that tells an endpoint of these ends.
pub fn write(form: ProxyHeader, ends: Option<Ends>, out: &mut Vec<u8>) {
    let header = match ends {
        Some(Ends { client, local }) if client.is_ipv4() == local.is_ipv4() => {
            Header::with_address(ProxiedAddress::stream(client, local))
        }
        _ => Header::with_local(),
    };
    let written = match form {
        ProxyHeader::V1 => header.encode_v1(out),
        ProxyHeader::V2 => header.encode_v2(out),
    };
    debug_assert!(written.is_ok(), "two addresses of one family have a header: {written:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> Ends {
        Ends { client: "1.2.3.4:5".parse().unwrap(), local: "6.7.8.9:443".parse().unwrap() }
    }

    #[test]
    fn what_is_written_is_read_wherever_it_breaks() {
        for form in [ProxyHeader::V1, ProxyHeader::V2] {
            let mut bytes = Vec::new();
            write(form, Some(ends()), &mut bytes);
            let whole = bytes.len();
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            for seen in 0..whole {
                assert_eq!(inspect(&bytes[..seen]).unwrap(), Found::Unknown, "{form:?} {seen}");
            }
            for seen in whole..bytes.len() {
                assert_eq!(inspect(&bytes[..seen]).unwrap(), Found::Header(whole, Some(ends())));
            }
        }
    }

    #[test]
    fn other_beginnings_are_left_alone_and_broken_headers_refused() {
        for text in
            ["GET / HTTP/1.1", "POST", "PRI * HTTP/2.0", "PROPFIND / HTTP/1.1", "\x16\x03\x01", "\r\nGET"]
        {
            assert_eq!(inspect(text.as_bytes()).unwrap(), Found::Nothing, "{text:?}");
        }
        assert_eq!(inspect(b"PR").unwrap(), Found::Unknown);
        let long = [b"PROXY TCP4 1.2.3.4 ".as_slice(), &[b'1'; 200]].concat();
        for bytes in [b"PROXY TCP4 a b c d\r\n".as_slice(), &long, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c"] {
            assert!(inspect(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(inspect(b"PROXY UNKNOWN\r\n").unwrap(), Found::Header(15, None));
        // One byte more than the longest, whether or not the rest has come.
        let longer = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 92], b"\r\nGET / HTTP/1.1\r\n"].concat();
        assert!((107..longer.len()).all(|seen| inspect(&longer[..seen]).is_err()));
    }

    #[test]
    fn ends_of_two_families_are_not_told() {
        let mixed = Ends { client: "[::1]:5".parse().unwrap(), ..ends() };
        let mut bytes = Vec::new();
        write(ProxyHeader::V1, Some(mixed), &mut bytes);
        assert_eq!(bytes, b"PROXY UNKNOWN\r\n");
    }
}
