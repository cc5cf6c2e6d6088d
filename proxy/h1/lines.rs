//! A head as the lines it is written in, while edits are made to it.

use http::header::HeaderName;

use crate::edit::Asked;
use crate::edit::Fields;
use crate::edit::Request;

/// A written head, from its first line to the empty one that ends it.
pub struct Lines<'a>(pub &'a mut Vec<u8>);

/// One field's line in a head: where it begins and ends, and its parts.
struct Line<'a> {
    from: usize,
    to: usize,
    name: &'a str,
    value: &'a [u8],
}

impl Lines<'_> {
    fn after_first(&self) -> usize {
        memchr::memchr(b'\n', self.0).map_or(self.0.len(), |end| end + 1)
    }

    /// The next line at or behind `from`; `None` at the empty one.
    fn line(&self, from: usize) -> Option<Line<'_>> {
        let rest = &self.0[from..];
        let end = memchr::memchr(b'\n', rest)?;
        let (name, value) = rest[..end].split_at(memchr::memchr(b':', &rest[..end])?);
        Some(Line {
            from,
            to: from + end + 1,
            name: std::str::from_utf8(name).ok()?,
            value: value[1..].trim_ascii(),
        })
    }

    fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut from = self.after_first();
        std::iter::from_fn(move || {
            let line = self.line(from)?;
            from = line.to;
            Some(line)
        })
    }

    /// A word of the request line.
    fn word(&self, index: usize) -> (usize, &str) {
        let first = &self.0[..self.after_first()];
        let mut from = 0;
        for _ in 0..index {
            from += memchr::memchr(b' ', &first[from..]).map_or(0, |space| space + 1);
        }
        let length = memchr::memchr(b' ', &first[from..]).unwrap_or(0);
        (from, std::str::from_utf8(&first[from..from + length]).unwrap_or_default())
    }
}

impl Fields for Lines<'_> {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        self.lines().find(|line| line.name.eq_ignore_ascii_case(name.as_str())).map(|line| line.value)
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove_where(&|other| other.eq_ignore_ascii_case(name.as_str()));
    }

    fn remove_where(&mut self, fits: &dyn Fn(&str) -> bool) {
        let mut from = self.after_first();
        while let Some(line) = self.line(from) {
            let (end, wanted) = (line.to, !fits(line.name));
            if wanted {
                from = end;
            } else {
                self.0.drain(from..end);
            }
        }
    }

    fn append(&mut self, name: &HeaderName, value: &[u8]) {
        let end = self.0.len().saturating_sub(2);
        self.0.truncate(end);
        super::field::push(self.0, name.as_str(), value);
        self.0.extend_from_slice(b"\r\n");
    }

    /// In the place of the first line of this name, so that `host` stays first.
    fn set(&mut self, name: &HeaderName, value: &[u8]) {
        let place = self.lines().find(|line| line.name.eq_ignore_ascii_case(name.as_str()));
        let Some(from) = place.map(|line| line.from) else { return self.append(name, value) };
        self.remove(name);
        let line = [name.as_str().as_bytes(), b": ", value, b"\r\n"].concat();
        self.0.splice(from..from, line);
    }
}

impl Asked for Lines<'_> {
    fn method(&self) -> &str {
        self.word(0).1
    }

    fn target(&self) -> &str {
        self.word(1).1
    }

    fn authority(&self) -> &str {
        self.first(&http::header::HOST).and_then(|host| std::str::from_utf8(host).ok()).unwrap_or_default()
    }

    fn field(&self, name: &HeaderName) -> Option<&[u8]> {
        self.first(name)
    }
}

impl Request for Lines<'_> {
    fn set_target(&mut self, target: &str) {
        let (from, before) = self.word(1);
        let to = from + before.len();
        self.0.splice(from..to, target.bytes());
    }

    fn asked(&self) -> &dyn Asked {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_put_and_taken_in_place() {
        let mut bytes = b"GET /a?b HTTP/1.1\r\nHost: a.b\r\nX-A: 1\r\nx-b: 2\r\nx-a: 3\r\n\r\n".to_vec();
        let mut lines = Lines(&mut bytes);
        assert_eq!((lines.method(), lines.target(), lines.authority()), ("GET", "/a?b", "a.b"));
        assert_eq!(lines.first(&HeaderName::from_static("x-a")), Some(&b"1"[..]));
        lines.set(&HeaderName::from_static("x-a"), b"4");
        lines.set(&http::header::HOST, b"c.d");
        lines.append(&HeaderName::from_static("x-c"), b"");
        lines.set_target("/longer/path");
        lines.remove(&HeaderName::from_static("x-b"));
        assert_eq!(
            bytes.escape_ascii().to_string(),
            b"GET /longer/path HTTP/1.1\r\nhost: c.d\r\nx-a: 4\r\nx-c: \r\n\r\n".escape_ascii().to_string()
        );
        let mut lines = Lines(&mut bytes);
        lines.remove_where(&|name| name.starts_with("x-"));
        assert_eq!(bytes, b"GET /longer/path HTTP/1.1\r\nhost: c.d\r\n\r\n");
    }

    #[test]
    fn an_answers_head_has_fields_too() {
        let mut bytes = b"HTTP/1.1 200 OK\r\nx-a: 1\r\n\r\n".to_vec();
        Lines(&mut bytes).remove(&HeaderName::from_static("x-a"));
        Lines(&mut bytes).append(&HeaderName::from_static("x-b"), b"2");
        assert_eq!(bytes, b"HTTP/1.1 200 OK\r\nx-b: 2\r\n\r\n");
    }
}
