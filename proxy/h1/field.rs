//! The fields of a head that concern a relay, told apart by name.

/// What a relay has to know of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Passed on as it is.
    Plain,
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    /// Belongs to one connection, or is of no use to the next.
    Drop,
    /// Asks for something that this codec does not do.
    Irregular,
    Date,
    ForwardedFor,
    ForwardedHost,
    ForwardedProto,
    RequestId,
    ServiceTime,
}

pub fn role(name: &str) -> Role {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match name.len() {
        2 if is("te") => Role::Irregular,
        4 if is("host") => Role::Host,
        4 if is("date") => Role::Date,
        6 if is("expect") => Role::Irregular,
        7 if is("upgrade") => Role::Irregular,
        10 if is("connection") => Role::Connection,
        10 if is("keep-alive") => Role::Drop,
        12 if is("x-request-id") => Role::RequestId,
        14 if is("content-length") => Role::ContentLength,
        15 if is("x-forwarded-for") => Role::ForwardedFor,
        16 if is("x-forwarded-host") => Role::ForwardedHost,
        16 if is("proxy-connection") => Role::Drop,
        17 if is("transfer-encoding") => Role::TransferEncoding,
        17 if is("x-forwarded-proto") => Role::ForwardedProto,
        29 if is("x-envoy-upstream-service-time") => Role::ServiceTime,
        _ => Role::Plain,
    }
}

/// What the `connection` field of a head says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Persistence {
    pub close: bool,
    pub keep_alive: bool,
    /// Names other fields, which would have to be dropped.
    pub names_fields: bool,
}

impl Persistence {
    pub fn read(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if !token.is_empty() {
                self.names_fields = true;
            }
        }
    }
}

/// A length made of digits alone.
pub fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

pub fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
