//! The fields of a head that concern a relay, told apart by name.

use crate::forwarded::Field;

/// What a relay has to know of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Passed on as it is.
    Plain,
    Host,
    ContentLength,
    ContentType,
    TransferEncoding,
    Connection,
    /// Belongs to one connection, or is of no use to the next.
    Drop,
    /// Asks for something that this codec does not do.
    Irregular,
    Date,
    Server,
    /// Tells of where the request comes from.
    Forwarded(Field),
    ServiceTime,
    GrpcStatus,
    /// The endpoint wants no more requests.
    Resigns,
}

/// A name's length and first letter leave one to compare with, or nearly.
pub fn role(name: &str) -> Role {
    let Some(first) = name.as_bytes().first() else { return Role::Plain };
    let of = |field: Field| (field.as_str(), Role::Forwarded(field));
    let (candidate, role) = match (name.len(), first | 0x20) {
        (2, b't') => ("te", Role::Irregular),
        (4, b'h') => ("host", Role::Host),
        (4, b'd') => ("date", Role::Date),
        (6, b'e') => ("expect", Role::Irregular),
        (6, b's') => ("server", Role::Server),
        (7, b'u') => ("upgrade", Role::Irregular),
        (10, b'c') => ("connection", Role::Connection),
        (10, b'k') => ("keep-alive", Role::Drop),
        (11, b'g') => ("grpc-status", Role::GrpcStatus),
        (12, b'c') => ("content-type", Role::ContentType),
        (12, b'x') => of(Field::RequestId),
        (14, b'c') => ("content-length", Role::ContentLength),
        (15, b'x') => of(Field::For),
        (16, b'x') if name.as_bytes()[12] | 0x20 == b'p' => of(Field::Port),
        (16, b'x') => of(Field::Host),
        (16, b'p') => ("proxy-connection", Role::Drop),
        (17, b't') => ("transfer-encoding", Role::TransferEncoding),
        (17, b'x') => of(Field::Proto),
        (23, b'x') => of(Field::ClientCertificate),
        (35, b'x') => ("x-envoy-immediate-health-check-fail", Role::Resigns),
        (29, b'x') => ("x-envoy-upstream-service-time", Role::ServiceTime),
        _ => return Role::Plain,
    };
    if is_same(name.as_bytes(), candidate.as_bytes()) { role } else { Role::Plain }
}

/// Compares a name with one of the same length in small letters and hyphens.
/// Setting the bit that tells small letters from capitals changes no other
/// character of a name into one of these.
fn is_same(name: &[u8], small: &[u8]) -> bool {
    const SMALL: u64 = u64::MAX / 255 * 0x20;
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map(|word| u64::from_le_bytes(*word));
    let Some(last) = name.len().checked_sub(8) else {
        return name.iter().zip(small).all(|(a, b)| a | 0x20 == *b);
    };
    // The last word overlaps the one before it, where the length is no multiple.
    (0..last).step_by(8).chain([last]).all(|at| word(name, at).map(|word| word | SMALL) == word(small, at))
}

/// Fields that a head may have here; more are irregular.
pub const MAX_FIELDS: usize = 128;

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
