//! Durations must have units, as in Prometheus 2.42. The parser takes bare numbers,
//! too, and panics where one is no length of time: so they are looked for before.

use promql_parser::util::parse_duration;

/// The first word in the place of a duration that is none.
pub fn not_a_duration(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let (mut at, mut in_brackets, mut expected) = (0, false, false);
    while let Some(byte) = bytes.get(at).copied() {
        match byte {
            b'"' | b'\'' | b'`' => {
                at = end_of_quoted(bytes, at);
                expected = false;
            }
            b'#' => {
                let rest = &bytes[at..];
                at += rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
            }
            b'+' | b'-' => at += 1,
            byte if byte.is_ascii_whitespace() => at += 1,
            byte if is_of_word(byte) => {
                let rest = &bytes[at..];
                let end = at + rest.iter().position(|byte| !is_of_word(*byte)).unwrap_or(rest.len());
                let word = text.get(at..end).unwrap_or_default();
                if expected && (word.parse::<f64>().is_ok() || parse_duration(word).is_err()) {
                    return Some(word);
                }
                expected = word.eq_ignore_ascii_case("offset");
                at = end;
            }
            other => {
                in_brackets = other == b'[' || (in_brackets && other != b']');
                expected = other == b'[' || (in_brackets && other == b':');
                at += 1;
            }
        }
    }
    None
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.' || !byte.is_ascii()
}

/// Past the closing quote, or the end.
fn end_of_quoted(bytes: &[u8], begin: usize) -> usize {
    let quote = bytes[begin];
    let mut at = begin + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' && quote != b'`' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_duration_is_found_wherever_one_is_expected() {
        for (text, word) in [
            ("a[1e400]", "1e400"),
            ("a[1e+400]", "1e"),
            ("a[inf]", "inf"),
            ("a[5m:nan]", "nan"),
            ("a offset 1e400", "1e400"),
            ("a OFFSET -300", "300"),
            ("a # [\r[0x10]", "0x10"),
            ("{b=\"\\\"\"}[30]", "30"),
        ] {
            assert_eq!(not_a_duration(text), Some(word), "{text}");
        }
    }

    #[test]
    fn durations_and_all_else_pass() {
        for text in [
            "rate(a{b=\"[1e400]\",c=~'x[0-9]+'}[1h30m] offset -5m) * 1e300 + inf",
            "max_over_time(a[5m:30s])",
            "max_over_time(a[5m:] @ 1600) # offset 1",
            "sum by (offset) (job:a:sum{offset=\"5\"})",
            "`[3]` == 1",
        ] {
            assert_eq!(not_a_duration(text), None, "{text}");
        }
    }
}
