//! The one message each way of `grpc.health.v1.Health/Check`, by hand: two fields
//! are no reason for a code generator.

use bytes::Bytes;

pub const PATH: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckResponse.ServingStatus.SERVING`.
pub const SERVING: u64 = 1;

/// Field 1, a string: `HealthCheckRequest.service`.
const SERVICE: u8 = 1 << 3 | 2;
/// Field 1, a number: `HealthCheckResponse.status`.
const STATUS: u64 = 1 << 3;

/// `HealthCheckRequest` in its frame.
pub fn question(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.append(&mut message);
    frame.into()
}

/// The status of a `HealthCheckResponse` in its frame; one without the field
/// says zero, UNKNOWN. `None` where the bytes are no such message.
pub fn serving(frame: &[u8]) -> Option<u64> {
    let (&compressed, rest) = frame.split_first()?;
    let (length, message) = rest.split_first_chunk::<4>()?;
    if compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let (mut status, mut rest) = (0, message);
    while !rest.is_empty() {
        let (tag, value) = varint(rest)?;
        rest = match tag & 7 {
            0 => {
                let (number, rest) = varint(value)?;
                if tag == STATUS {
                    status = number;
                }
                rest
            }
            1 => value.get(8..)?,
            2 => {
                let (length, rest) = varint(value)?;
                rest.get(usize::try_from(length).ok()?..)?
            }
            5 => value.get(4..)?,
            _ => return None,
        };
    }
    Some(status)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_its_service() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("a.B")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        assert_eq!(long.len(), 308);
    }

    #[test]
    fn an_answer_is_read_and_garbage_is_not() {
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 2]), Some(2));
        assert_eq!(serving(&[0, 0, 0, 0, 0]), Some(0), "unset is UNKNOWN");
        let with_others = [0, 0, 0, 0, 9, 0x12, 1, b'x', 0x1d, 0, 0, 0, 0, 8];
        assert_eq!(serving(&with_others), None, "cut short");
        assert_eq!(serving(&[0, 0, 0, 0, 10, 0x12, 1, b'x', 0x1d, 0, 0, 0, 0, 8, 1]), Some(1));
        for bad in
            [&[][..], &[0, 0, 0], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 3, 8, 1], &[0, 0, 0, 0, 1, 0xff]]
        {
            assert_eq!(serving(bad), None, "{bad:?}");
        }
    }
}
