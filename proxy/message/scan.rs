//! Takes a regular head apart where it lies, in one pass: its first line, and every
//! field with what it means to a relay.
//!
//! It knows one spelling of everything, the one that nearly all heads have. What is
//! odd is `None` here, never an error and never guessed at: httparse reads such an
//! answer, hyper behind `guard.rs` such a request. That httparse reads alike whatever
//! is read here is a property that `fuzz.rs` checks.

use std::mem::MaybeUninit;

use httparse::Header;

use crate::message::field;
use crate::message::field::MAX_FIELDS;
use crate::message::field::Role;
use crate::message::runs::name_end;
use crate::message::runs::target_end;
use crate::message::runs::value_end;

/// What a relay has to know of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub role: Role,
    /// Its line is spelled as we would spell it.
    plain: bool,
    /// Where its line ends in the head.
    end: u32,
}

/// The fields of a head, in their order.
pub struct Fields<'h> {
    headers: [MaybeUninit<Header<'h>>; MAX_FIELDS],
    marks: [MaybeUninit<Mark>; MAX_FIELDS],
    count: usize,
}

/// The first line of a request.
pub struct Asks<'h> {
    pub method: &'h str,
    pub target: &'h str,
    pub end: usize,
}

/// The first line of an answer.
pub struct Says {
    pub code: u16,
    pub end: usize,
}

/// `GET /path HTTP/1.1`, with a target that every reader takes for one.
pub fn request_line(head: &[u8]) -> Option<Asks<'_>> {
    let method = name_end(head, 0);
    let from = method + 1;
    if method == 0 || *head.get(method)? != b' ' || *head.get(from)? != b'/' {
        return None;
    }
    let to = target_end(head, from);
    const REST: &[u8] = b" HTTP/1.1\r\n";
    let end = to + REST.len();
    (head.get(to..end)? == REST).then(|| Asks {
        method: ascii(&head[..method]),
        target: ascii(&head[from..to]),
        end,
    })
}

/// `HTTP/1.1 200 OK`, the words in ASCII.
pub fn status_line(head: &[u8]) -> Option<Says> {
    const VERSION: &[u8] = b"HTTP/1.1 ";
    let rest = head.strip_prefix(VERSION)?;
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' '] = *rest.first_chunk()? else { return None };
    let digit = |byte: u8| u16::from(byte - b'0');
    let from = VERSION.len() + 4;
    let to = value_end(head, from);
    let end = to + 2;
    let whole = head.get(to..end)? == b"\r\n" && head[from..to].is_ascii();
    whole.then(|| Says { code: 100 * digit(a) + 10 * digit(b) + digit(c), end })
}

impl<'h> Fields<'h> {
    pub const fn new() -> Fields<'h> {
        Fields {
            headers: [const { MaybeUninit::uninit() }; MAX_FIELDS],
            marks: [const { MaybeUninit::uninit() }; MAX_FIELDS],
            count: 0,
        }
    }

    pub fn list(&self) -> &[Header<'h>] {
        // SAFETY: `push` has written the first `count`.
        unsafe { self.headers[..self.count].assume_init_ref() }
    }

    pub fn marks(&self) -> &[Mark] {
        // SAFETY: as above.
        unsafe { self.marks[..self.count].assume_init_ref() }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Header<'h>, Role)> {
        self.list().iter().zip(self.marks()).map(|(header, mark)| (header, mark.role))
    }

    /// Reads the lines of `head` from `at` on, up to the empty one. Answers with
    /// where that ends.
    pub fn read(&mut self, head: &'h [u8], mut at: usize) -> Option<usize> {
        self.count = 0;
        loop {
            let begin = at;
            at = name_end(head, begin);
            if at == begin {
                return (head.get(at..at + 2)? == b"\r\n").then_some(at + 2);
            }
            let name = ascii(&head[begin..at]);
            if *head.get(at)? != b':' {
                return None;
            }
            let own = at + 2;
            let (from, mut plain) = match head.get(at + 1..)? {
                // One blank behind the colon: all but always.
                [b' ', next, ..] if !is_blank(*next) => (own, true),
                rest => (at + 1 + rest.iter().take_while(|byte| is_blank(**byte)).count(), false),
            };
            at = value_end(head, from);
            if head.get(at..at + 2)? != b"\r\n" {
                return None;
            }
            let mut value = &head[from..at];
            if value.last().is_some_and(|byte| is_blank(*byte)) {
                (value, plain) = (value.trim_ascii_end(), false);
            }
            at += 2;
            let mark = Mark { role: field::role(name), plain, end: u32::try_from(at).ok()? };
            self.push(Header { name, value }, mark)?;
        }
    }

    /// Takes over what httparse has read.
    pub fn adopt(&mut self, headers: &[Header<'h>]) -> Option<()> {
        self.count = 0;
        for header in headers {
            self.push(*header, Mark { role: field::role(header.name), plain: false, end: 0 })?;
        }
        Some(())
    }

    fn push(&mut self, header: Header<'h>, mark: Mark) -> Option<()> {
        self.headers.get_mut(self.count)?.write(header);
        self.marks[self.count].write(mark);
        self.count += 1;
        Some(())
    }

    /// Passes on the lines that `keep` says, as they came and in as few pieces as
    /// can be. What stands in `head` between `from` and the first field goes with
    /// them, up to `begin`.
    pub fn pass(
        &self,
        head: &[u8],
        mut from: usize,
        begin: usize,
        out: &mut Vec<u8>,
        mut keep: impl FnMut(&Header<'h>, Role) -> bool,
    ) {
        let mut at = begin;
        for (header, mark) in self.list().iter().zip(self.marks()) {
            let kept = keep(header, mark.role);
            if !(kept && mark.plain) {
                out.extend_from_slice(&head[from..at]);
                if kept {
                    field::push(out, header.name, header.value);
                }
                from = mark.end as usize;
            }
            at = mark.end as usize;
        }
        out.extend_from_slice(&head[from..at]);
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Callers have looked at each byte.
pub fn ascii(bytes: &[u8]) -> &str {
    debug_assert!(bytes.is_ascii());
    // SAFETY: ASCII is UTF-8; names, methods, targets and hosts are checked to be
    // of a class that is all ASCII before they come here.
    unsafe { std::str::from_utf8_unchecked(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_passed_on_as_they_came_or_as_we_spell_them() {
        let head = b"X\r\nA: 1\r\nB:2\r\nC:  3\r\nDrop: x\r\nD: 4 \r\nE: \r\nF:\r\n\r\nrest";
        let mut fields = Fields::new();
        assert_eq!(fields.read(head, 3), Some(head.len() - 4));
        let mut out = Vec::new();
        fields.pass(head, 0, 3, &mut out, |header, _| header.name != "Drop");
        assert_eq!(String::from_utf8(out).unwrap(), "X\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: \r\nF: \r\n");
    }

    #[test]
    fn what_is_cut_off_or_odd_is_not_read() {
        let whole = b"A: 1\r\nBc: 2\r\n\r\n";
        for length in 0..whole.len() {
            assert_eq!(Fields::new().read(&whole[..length], 0), None, "{length} bytes");
        }
        for odd in [
            "A : 1\r\n\r\n",
            "A: 1\n\n",
            "A: \x01\r\n\r\n",
            " A: 1\r\n\r\n",
            "A\r\n\r\n",
            "A: 1\r\n b\r\n\r\n",
        ] {
            assert_eq!(Fields::new().read(odd.as_bytes(), 0), None, "{odd:?}");
        }
        for odd in
            ["GET  / HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", "GET a HTTP/1.1\r\n", " / HTTP/1.1\r\n", "GET /"]
        {
            assert!(request_line(odd.as_bytes()).is_none(), "{odd:?}");
        }
        for odd in [
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 200\r\n",
            "HTTP/1.1 99 x\r\n",
            "HTTP/1.1 200 \u{e4}\r\n",
            "HTTP/1.1 200 O",
        ] {
            assert!(status_line(odd.as_bytes()).is_none(), "{odd:?}");
        }
    }
}
