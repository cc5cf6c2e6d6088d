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
    let name = name.as_bytes();
    let Some(first) = name.first() else { return Role::Plain };
    let of = |is_it: bool, role: Role| if is_it { role } else { Role::Plain };
    match (name.len(), first | 0x20) {
        (2, b't') => of(is(name, b"te"), Role::Irregular),
        (4, b'h') => of(is(name, b"host"), Role::Host),
        (4, b'd') => of(is(name, b"date"), Role::Date),
        (6, b'e') => of(is(name, b"expect"), Role::Irregular),
        (6, b's') => of(is(name, b"server"), Role::Server),
        (7, b'u') => of(is(name, b"upgrade"), Role::Irregular),
        (10, b'c') => of(is(name, b"connection"), Role::Connection),
        (10, b'k') => of(is(name, b"keep-alive"), Role::Drop),
        (11, b'g') => of(is(name, b"grpc-status"), Role::GrpcStatus),
        (12, b'c') => of(is(name, b"content-type"), Role::ContentType),
        (12, b'x') => of(is(name, b"x-request-id"), Role::Forwarded(Field::RequestId)),
        (14, b'c') => of(is(name, b"content-length"), Role::ContentLength),
        (15, b'x') => of(is(name, b"x-forwarded-for"), Role::Forwarded(Field::For)),
        (16, b'x') if name[12] | 0x20 == b'p' => {
            of(is(name, b"x-forwarded-port"), Role::Forwarded(Field::Port))
        }
        (16, b'x') => of(is(name, b"x-forwarded-host"), Role::Forwarded(Field::Host)),
        (16, b'p') => of(is(name, b"proxy-connection"), Role::Drop),
        (17, b't') => of(is(name, b"transfer-encoding"), Role::TransferEncoding),
        (17, b'x') => of(is(name, b"x-forwarded-proto"), Role::Forwarded(Field::Proto)),
        (23, b'x') => of(is(name, b"x-forwarded-client-cert"), Role::Forwarded(Field::ClientCertificate)),
        (29, b'x') => of(is(name, b"x-envoy-upstream-service-time"), Role::ServiceTime),
        (35, b'x') => of(is(name, b"x-envoy-immediate-health-check-fail"), Role::Resigns),
        _ => Role::Plain,
    }
}

/// Compares a name with one in small letters and hyphens. Setting the bit that tells
/// small letters from capitals changes no other character of a name into one of these.
fn is<const N: usize>(name: &[u8], small: &[u8; N]) -> bool {
    const SMALL: u64 = u64::MAX / 255 * 0x20;
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    let Some(last) = N.checked_sub(8) else {
        return (0..N).all(|at| name[at] | 0x20 == small[at]);
    };
    let word =
        |bytes: &[u8; N], at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("eight follow"));
    // The last word overlaps the one before it, where the length is no multiple.
    let differs = |at: usize| (word(name, at) | SMALL) ^ word(small, at);
    (0..last).step_by(8).fold(differs(last), |all, at| all | differs(at)) == 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_fields_are_known_by_their_names_however_spelled() {
        for field in Field::ALL {
            let name = field.as_str();
            assert_eq!(role(name), Role::Forwarded(field));
            assert_eq!(role(&name.to_ascii_uppercase()), Role::Forwarded(field));
            for at in 0..name.len() {
                let mut other = name.to_owned();
                other.replace_range(at..=at, "~");
                assert_eq!(role(&other), Role::Plain, "{other}");
            }
        }
        assert_eq!(
            [role("Host"), role("hOSt"), role("h0st"), role("")],
            [Role::Host, Role::Host, Role::Plain, Role::Plain]
        );
    }
}
