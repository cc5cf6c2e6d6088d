//! A head that comes in pieces, and when it is worth to be read once more: not at
//! each of them, or a head in small pieces costs as much as its length squared.

/// Of what has come of an answer's head.
#[derive(Default)]
pub struct Growing {
    /// Where its first line begins, as far as is known.
    begin: usize,
    /// So much has been looked through.
    seen: usize,
    /// So much was there when it was read last.
    read: usize,
}

impl Growing {
    /// Is it worth to read? Where it may have ended; and now and then, for what is no
    /// head may never end. Line feeds alone end lines, too, for who reads it.
    pub fn is_ripe(&mut self, head: &[u8]) -> bool {
        // Nearly all come in one piece, of which the end is for the reader to find.
        if self.read == 0 {
            self.read = head.len();
            return true;
        }
        // Empty lines before the first are passed over, and end nothing.
        let blank = head[self.begin..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        if self.seen <= self.begin {
            self.begin += blank.count();
        }
        let from = self.seen.max(self.begin);
        let mut ends = memchr::memchr_iter(b'\n', &head[from..]).map(|at| at + from);
        let ended = ends.any(|at| matches!(head[..at], [.., b'\n'] | [.., b'\n', b'\r']));
        self.seen = head.len();
        let ripe = ended || head.len() >= 2 * self.read;
        if ripe {
            self.read = head.len();
        }
        ripe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At which lengths it is read when it comes byte by byte.
    fn read_at(head: &[u8]) -> Vec<usize> {
        let mut growing = Growing::default();
        (1..=head.len()).filter(|length| growing.is_ripe(&head[..*length])).collect()
    }

    #[test]
    fn a_head_in_small_pieces_is_read_a_few_times_and_at_its_end() {
        let line = format!("x: {}\r\n", "y".repeat(1_000));
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", line.repeat(256));
        let reads = read_at(head.as_bytes());
        assert!(reads.len() < 25, "{} times", reads.len());
        assert_eq!(reads.last(), Some(&head.len()));
        for end in ["\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n"] {
            for start in ["", "\r\n", "\n\n\r\n\n"] {
                let head = format!("{start}HTTP/1.1 200 OK\r\na: {}{end}", "b".repeat(99));
                assert_eq!(read_at(head.as_bytes()).last(), Some(&head.len()), "{head:?}");
                for cut in 1..head.len() {
                    let mut growing = Growing::default();
                    growing.is_ripe(&head.as_bytes()[..cut]);
                    assert!(growing.is_ripe(head.as_bytes()), "{head:?} cut at {cut}");
                }
            }
        }
    }

    #[test]
    fn what_has_no_end_is_read_now_and_then() {
        for endless in [b"\n", b"\r", b"x"] {
            let reads = read_at(&endless.repeat(100_000));
            assert!((10..25).contains(&reads.len()), "{endless:?}: {} times", reads.len());
        }
    }
}
