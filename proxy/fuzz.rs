//! What must hold for any bytes, as functions that a fuzzer calls
//! (`tests/fuzz`) and that the tests call with a few thousand mutations.

pub use crate::edit::fuzz::template;
pub use crate::frames::fuzz::frames;
pub use crate::h1::fuzz::{answer_head, body, edited, forwarded, guarded, request_head};
pub use crate::preamble::fuzz::preamble;
pub use crate::split::fuzz::cookies;
pub use crate::table::fuzz::routes;
pub use crate::timeouts::fuzz::grpc_timeout;

#[cfg(test)]
mod tests {
    use super::*;

    const PROPERTIES: [fn(&[u8]); 12] = [
        request_head,
        answer_head,
        body,
        guarded,
        routes,
        forwarded,
        edited,
        frames,
        preamble,
        cookies,
        grpc_timeout,
        template,
    ];
    /// Good messages and the beginnings of bad ones.
    const SEEDS: [&[u8]; 24] = [
        b"GET /a?b=c HTTP/1.1\r\nhost: a.b:80\r\ncookie: a=b; c=d\r\nx-forwarded-for: 1.1.1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nt: 1\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nhost: a\r\nconnection: close, x\r\nupgrade: websocket\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n\x16\x03\x01",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ndate: x\r\nset-cookie: a=b\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 204 No\r\nconnection: keep-alive\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"/a/b\n/a\n*\n/a/\n=/a/b\n/a/c",
        b"*.example.com\na.example.com\nwww.*\n*\nA.Example.com:80",
        b"\r\n\r\n \t\0\xff",
        b"\x03\xff\0\0\0\x01\x05\0\0\0\x01\0\0\x04\x03\0\0\0\0\x01\0\0\0\x08",
        b"\x09\xff\0\0\x04\x08\0\0\0\0\0\0\0\0\x01\0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\x01",
        b"\x01\x40\0\0\0\0\0\0\0\0\x01",
        b"%REQ(x-a?:path):3%|%PROTOCOL%|%ROUTE_NAME%|100%%|%DOWNSTREAM_REMOTE_ADDRESS%|%START_TIME(%s.%3f)%",
        b"%RESP(x-b)%|%RESP(:status):2%|%RESPONSE_CODE%|%UPSTREAM_HOST%|%UPSTREAM_CLUSTER%|%ENVIRONMENT(HOME)%",
        b"=x-a=%REQ(x-b)%|+x-a=b|-x-c*|?x-d=%REQ(:path)%|!x-e=|p/new|Hx-b|a\nGET /a/b?c HTTP/1.1\r\nHost: a.b\r\nX-B: b.c:8\r\nx-e: 1\r\n\r\n",
        b"s^/([a-z])~/\\1x|P^/(.).*$~\\1.test\nGET /a HTTP/1.1\r\nhost: a.b\r\nx-c: 1\r\nX-Envoy-Original-Path: /x\r\n\r\n",
        b"\xa5\x02GET / HTTP/1.1\r\nhost: a\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\nx-forwarded-client-cert: Hash=0\r\nx-request-id: 7\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\0\x09\0\x0a",
        b"sid\na=1; sid=\"x\"; b=2\nsid =3;sid\nc=4",
        b"99999999H",
    ];

    #[test]
    fn a_few_thousand_mutations_break_nothing() {
        let mut state = 0x5eed_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below.max(1)
        };
        for round in 0..4_000 {
            let mut bytes = SEEDS[round % SEEDS.len()].to_vec();
            for _ in 0..random(6) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] = b"\r\n\0 :,;=chunked0159*/.%\xff"[random(24)],
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, bytes[random(bytes.len())]),
                    _ => {
                        let other = SEEDS[random(SEEDS.len())];
                        bytes.extend_from_slice(&other[..random(other.len())]);
                    }
                }
                if bytes.is_empty() {
                    break;
                }
            }
            for property in PROPERTIES {
                property(&bytes);
            }
        }
    }
}
