//! A request's path as everything after the listener sees it: what a server
//! behind us would make of it anyhow is made of it before it is routed.
//!
//! The outcomes are Envoy's, measured on it, but for two: an escaped backslash stays
//! where nothing would turn it into a slash, and a path of slashes alone is one.

use crate::model::EscapedSlashes;
use crate::model::Paths;

/// What becomes of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Same,
    Changed(String),
    /// The client is to ask for this.
    Moved(String),
    Refused,
}

/// Does it take more than a look to know what becomes of it?
pub fn concerns(policy: Paths, target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let mut last = 0;
    path.bytes().any(|byte| {
        let before = std::mem::replace(&mut last, byte);
        match byte {
            b'%' => policy.normalize || policy.escaped_slashes != EscapedSlashes::Keep,
            b'\\' | b'.' if before == b'/' || byte == b'\\' => policy.normalize,
            b'/' => before == b'/' && policy.merge_slashes,
            _ => false,
        }
    })
}

pub fn apply(policy: Paths, target: &str) -> Outcome {
    if !concerns(policy, target) || !target.starts_with('/') {
        return Outcome::Same;
    }
    let (written, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    let mut path = written.to_owned();
    let unescaped = match policy.escaped_slashes {
        EscapedSlashes::Keep => false,
        _ => unescape_slashes(&mut path, policy.normalize),
    };
    if policy.escaped_slashes == EscapedSlashes::Reject && has_escaped_slash(written) {
        return Outcome::Refused;
    }
    if policy.normalize {
        match normalized(&path) {
            Some(normal) => path = normal,
            None => return Outcome::Refused,
        }
    }
    if policy.merge_slashes {
        path = merged(&path);
    }
    if unescaped && policy.escaped_slashes == EscapedSlashes::Redirect {
        // Two slashes at the front would name another host.
        let rest = path.trim_start_matches('/');
        return Outcome::Moved(format!("/{rest}{query}"));
    }
    match path == written {
        true => Outcome::Same,
        false => Outcome::Changed(path + query),
    }
}

fn has_escaped_slash(path: &str) -> bool {
    let escapes = memchr::memchr_iter(b'%', path.as_bytes());
    escapes.filter_map(|at| escaped(path, at)).any(|byte| matches!(byte, b'/' | b'\\'))
}

/// The byte that is escaped here.
fn escaped(path: &str, at: usize) -> Option<u8> {
    let digits = path.get(at + 1..at + 3)?;
    let hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Whether there were any.
fn unescape_slashes(path: &mut String, backslashes: bool) -> bool {
    let before = path.len();
    for (escape, slash) in [("%2f", '/'), ("%2F", '/'), ("%5c", '\\'), ("%5C", '\\')] {
        if slash == '/' || backslashes {
            *path = path.replace(escape, slash.encode_utf8(&mut [0; 4]));
        }
    }
    path.len() != before
}

/// `None` for a path that no server should see.
fn normalized(path: &str) -> Option<String> {
    let (mut plain, mut at) = (String::with_capacity(path.len()), 0);
    while let Some(letter) = path[at..].chars().next() {
        match (letter, escaped(path, at)) {
            ('%', Some(0)) => return None,
            ('%', Some(byte)) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                plain.push(char::from(byte));
                at += 2;
            }
            ('\\', _) => plain.push('/'),
            (letter, _) => plain.push(letter),
        }
        at += letter.len_utf8();
    }
    let mut kept = Vec::new();
    let mut segments = plain[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        // Some servers take off parameters before they look.
        match segment.split(';').next().unwrap_or_default() {
            ".." => drop(kept.pop()),
            "." => {}
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            kept.push("");
        }
    }
    Some(format!("/{}", kept.join("/")))
}

fn merged(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !merged.ends_with('/') {
            merged.push(letter);
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFF: Paths =
        Paths { normalize: false, merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };

    fn path(policy: Paths, target: &str) -> String {
        match apply(policy, target) {
            Outcome::Same => target.to_owned(),
            Outcome::Changed(target) => target,
            Outcome::Moved(target) => format!("307 {target}"),
            Outcome::Refused => "400".to_owned(),
        }
    }

    /// Each target, then what a real Envoy sends on: with `normalize_path`, with
    /// `merge_slashes`, with both, with both and `UNESCAPE_AND_FORWARD`.
    const MEASURED: [(&str, [&str; 4]); 40] = [
        ("/a/b", ["/a/b", "/a/b", "/a/b", "/a/b"]),
        ("/a/./b", ["/a/b", "/a/./b", "/a/b", "/a/b"]),
        ("/a/../b", ["/b", "/a/../b", "/b", "/b"]),
        ("/../a", ["/a", "/../a", "/a", "/a"]),
        ("/a/..", ["/", "/a/..", "/", "/"]),
        ("/a/.", ["/a/", "/a/.", "/a/", "/a/"]),
        ("/a/b/../../../c", ["/c", "/a/b/../../../c", "/c", "/c"]),
        ("//a//b///c", ["//a//b///c", "/a/b/c", "/a/b/c", "/a/b/c"]),
        ("/a/%2e%2e/b", ["/b", "/a/%2e%2e/b", "/b", "/b"]),
        ("/a/%2E/b", ["/a/b", "/a/%2E/b", "/a/b", "/a/b"]),
        ("/a%2fb", ["/a%2fb", "/a%2fb", "/a%2fb", "/a/b"]),
        ("/a%2Fb%5cc", ["/a%2Fb%5cc", "/a%2Fb%5cc", "/a%2Fb%5cc", "/a/b/c"]),
        ("/a\\..\\b", ["/b", "/a\\..\\b", "/b", "/b"]),
        ("/%61%7e%2d%5f", ["/a~-_", "/%61%7e%2d%5f", "/a~-_", "/a~-_"]),
        ("/%41?x=%61", ["/A?x=%61", "/%41?x=%61", "/A?x=%61", "/A?x=%61"]),
        ("/a/..?x=/../y", ["/?x=/../y", "/a/..?x=/../y", "/?x=/../y", "/?x=/../y"]),
        ("/a?x=//b", ["/a?x=//b", "/a?x=//b", "/a?x=//b", "/a?x=//b"]),
        ("/a//../b", ["/a/b", "/a/../b", "/a/b", "/a/b"]),
        ("/a/%2f/b", ["/a/%2f/b", "/a/%2f/b", "/a/%2f/b", "/a/b"]),
        ("/a%00b", ["400", "/a%00b", "400", "400"]),
        ("/a%zz", ["/a%zz", "/a%zz", "/a%zz", "/a%zz"]),
        ("/a%", ["/a%", "/a%", "/a%", "/a%"]),
        ("/a%2", ["/a%2", "/a%2", "/a%2", "/a%2"]),
        ("/%c3%a9", ["/%c3%a9", "/%c3%a9", "/%c3%a9", "/%c3%a9"]),
        ("/a%20b%21%2a", ["/a%20b%21%2a", "/a%20b%21%2a", "/a%20b%21%2a", "/a%20b%21%2a"]),
        ("/a;b=c/..;x/d", ["/d", "/a;b=c/..;x/d", "/d", "/d"]),
        ("/..;/a", ["/a", "/..;/a", "/a", "/a"]),
        ("/a/.;x/b", ["/a/b", "/a/.;x/b", "/a/b", "/a/b"]),
        ("/a/...", ["/a/...", "/a/...", "/a/...", "/a/..."]),
        ("/%2e%2e%2fa", ["/..%2fa", "/%2e%2e%2fa", "/..%2fa", "/a"]),
        ("/a/%2e%2e%2f%2e%2e/b", ["/a/..%2f../b", "/a/%2e%2e%2f%2e%2e/b", "/a/..%2f../b", "/b"]),
        ("/a/%252e%252e/b", ["/a/%252e%252e/b", "/a/%252e%252e/b", "/a/%252e%252e/b", "/a/%252e%252e/b"]),
        ("/a%2f?x=%2f", ["/a%2f?x=%2f", "/a%2f?x=%2f", "/a%2f?x=%2f", "/a/?x=%2f"]),
        ("/a//%2e%2e//b", ["/a//b", "/a/%2e%2e/b", "/a/b", "/a/b"]),
        ("//..//a", ["//a", "/../a", "/a", "/a"]),
        ("/a/..//", ["//", "/a/../", "//", "//"]),
        ("/a/..?", ["/?", "/a/..?", "/?", "/?"]),
        ("/.;?q", ["/?q", "/.;?q", "/?q", "/?q"]),
        ("/a/;../b", ["/a/;../b", "/a/;../b", "/a/;../b", "/a/;../b"]),
        ("/a/..%5c..%5cb", ["/a/..%5c..%5cb", "/a/..%5c..%5cb", "/a/..%5c..%5cb", "/b"]),
    ];

    #[test]
    fn paths_become_what_they_become_in_envoy() {
        let normalize = Paths { normalize: true, ..OFF };
        let both = Paths { merge_slashes: true, ..normalize };
        let policies = [
            normalize,
            Paths { merge_slashes: true, ..OFF },
            both,
            Paths { escaped_slashes: EscapedSlashes::Unescape, ..both },
        ];
        for (target, expected) in MEASURED {
            for (policy, expected) in policies.into_iter().zip(expected) {
                // A path of slashes alone: decided otherwise.
                let expected = if policy.merge_slashes && expected == "//" { "/" } else { expected };
                assert_eq!(path(policy, target), expected, "{target} {policy:?}");
            }
            assert_eq!(path(OFF, target), target);
        }
    }

    #[test]
    fn escaped_slashes_are_refused_or_sent_elsewhere() {
        let policy = |escaped_slashes| Paths { escaped_slashes, ..OFF };
        let all = Paths { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Redirect };
        for (target, refused, moved, normal) in [
            ("/a%2fb?x=%2f", "400", "307 /a/b?x=%2f", "307 /a/b?x=%2f"),
            ("/a%5Cb", "400", "/a%5Cb", "307 /a/b"),
            ("/a/%2f/b", "400", "307 /a///b", "307 /a/b"),
            ("/%2fevil.example", "400", "307 /evil.example", "307 /evil.example"),
            ("/a%25b?x=%2f", "/a%25b?x=%2f", "/a%25b?x=%2f", "/a%25b?x=%2f"),
        ] {
            assert_eq!(path(policy(EscapedSlashes::Reject), target), refused, "{target}");
            assert_eq!(path(policy(EscapedSlashes::Redirect), target), moved, "{target}");
            assert_eq!(path(all, target), normal, "{target}");
        }
    }

    #[test]
    fn what_is_normal_stays_so() {
        let all = Paths { normalize: true, merge_slashes: true, escaped_slashes: EscapedSlashes::Unescape };
        for (target, _) in MEASURED.into_iter().chain([("/a/%2e%2e;x/b", [""; 4])]) {
            let Outcome::Changed(once) = apply(all, target) else { continue };
            assert_eq!(apply(all, &once), Outcome::Same, "{target}");
        }
    }
}
