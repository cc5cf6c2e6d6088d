//! A point in time as `%START_TIME(format)%` writes it: a part of strftime, and
//! Envoy's fractions of a second.

use std::io::Write;
use std::time::Duration;

pub struct Format(Vec<Part>);

enum Part {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// Seconds since 1970.
    Epoch,
    /// So many digits of the second's fraction.
    Fraction(usize),
}

impl Format {
    /// The empty text is Envoy's default, `2026-11-20T18:45:15.334Z`.
    pub fn read(text: &str) -> Result<Format, String> {
        let mut rest = if text.is_empty() { "%Y-%m-%dT%H:%M:%S.%3fZ" } else { text };
        let mut parts = Vec::new();
        while let Some((before, after)) = rest.split_once('%') {
            parts.push(Part::Text(before.to_owned()));
            let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let letter = after[digits..].chars().next();
            parts.push(match (&after[..digits], letter) {
                ("", Some('Y')) => Part::Year,
                ("", Some('m')) => Part::Month,
                ("", Some('d')) => Part::Day,
                ("", Some('H')) => Part::Hour,
                ("", Some('M')) => Part::Minute,
                ("", Some('S')) => Part::Second,
                ("", Some('s')) => Part::Epoch,
                ("", Some('f')) => Part::Fraction(9),
                ("", Some('%')) => Part::Text("%".to_owned()),
                (number @ ("1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9"), Some('f')) => {
                    Part::Fraction(number.parse().expect("a digit is a number"))
                }
                _ => {
                    let known = "%Y %m %d %H %M %S %s %f and %1f to %9f";
                    return Err(format!("a time is written with {known}, not with {text:?}"));
                }
            });
            rest = &after[digits + 1..];
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Format(parts))
    }

    pub fn show(&self, since_epoch: Duration, out: &mut Vec<u8>) {
        let seconds = since_epoch.as_secs();
        let (year, month, day) = date(seconds / 86_400);
        for part in &self.0 {
            let written = match part {
                Part::Text(text) => write!(out, "{text}"),
                Part::Year => write!(out, "{year:04}"),
                Part::Month => write!(out, "{month:02}"),
                Part::Day => write!(out, "{day:02}"),
                Part::Hour => write!(out, "{:02}", seconds / 3600 % 24),
                Part::Minute => write!(out, "{:02}", seconds / 60 % 60),
                Part::Second => write!(out, "{:02}", seconds % 60),
                Part::Epoch => write!(out, "{seconds}"),
                Part::Fraction(digits) => {
                    let nanos = format!("{:09}", since_epoch.subsec_nanos());
                    write!(out, "{}", &nanos[..*digits])
                }
            };
            written.expect("memory takes every byte");
        }
    }
}

/// Year, month and day of a day counted from 1970 (Gregorian, after Hinnant):
/// years begin in March, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: &str, millis: u64) -> String {
        let mut out = Vec::new();
        Format::read(format).unwrap().show(Duration::from_millis(millis), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_as_asked() {
        assert_eq!(shown("", 1_795_200_315_334), "2026-11-20T18:45:15.334Z");
        assert_eq!(shown("%s.%6f", 1_795_200_315_334), "1795200315.334000");
        assert_eq!(shown("%Y/%m/%d", 951_782_400_000), "2000/02/29");
        assert_eq!(shown("%Y/%m/%d %H", 0), "1970/01/01 00");
        assert!(Format::read("%q").is_err() && Format::read("%").is_err() && Format::read("%3S").is_err());
    }
}
