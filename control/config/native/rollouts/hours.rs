//! Days and hours in which more may go to a canary.

use jiff::tz::TimeZone;

use crate::config::fields::Spot;
use crate::rollout::spec::Hours;
use crate::rollout::spec::Span;

const FIELDS: [&str; 2] = ["timeZone", "allow"];
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// Minutes of a day.
const DAY: u16 = 24 * 60;

pub fn read(spot: &Spot) -> Option<Hours> {
    let fields = spot.fields(&FIELDS)?;
    let zone = match fields.has("timeZone") {
        false => Some("UTC".to_owned()),
        true => fields.get("timeZone")?.parsed(zone),
    };
    let spans = fields.need("allow")?.one_or_more();
    let read: Vec<Span> = spans.iter().filter_map(|spot| spot.parsed(span)).collect();
    if read.len() < spans.len() || read.is_empty() {
        return None;
    }
    Some(Hours { zone: zone?, spans: read })
}

fn zone(text: &str) -> Result<String, String> {
    match TimeZone::get(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is no time zone; expects a name such as Europe/Berlin or UTC")),
    }
}

/// `Mon-Fri 09:00-17:00`, `Sat,Sun 10:00-12:00`, `22:00-04:00` or `Sun`.
fn span(text: &str) -> Result<Span, String> {
    let wrong = || format!("expects days and hours such as `Mon-Fri 09:00-17:00`, not {text:?}");
    let mut words = text.split_whitespace();
    let (first, second) = (words.next().ok_or_else(wrong)?, words.next());
    if words.next().is_some() {
        return Err(wrong());
    }
    let (on, at) = match second {
        Some(second) => (Some(first), Some(second)),
        None if first.contains(':') => (None, Some(first)),
        None => (Some(first), None),
    };
    let days = on.map_or(Some(0b111_1111), days).ok_or_else(wrong)?;
    let (from, until) = match at {
        Some(at) => {
            let (from, until) = at.split_once('-').ok_or_else(wrong)?;
            (minute(from).ok_or_else(wrong)?, minute(until).ok_or_else(wrong)?)
        }
        None => (0, DAY),
    };
    if from == DAY || from == until {
        return Err(format!("{text:?} holds no minute; a whole day is given by its name alone"));
    }
    Ok(Span { days, from, until })
}

fn days(text: &str) -> Option<u8> {
    let number = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        for day in 0..7 {
            let day = (first + day) % 7;
            days |= 1 << day;
            if day == last {
                break;
            }
        }
    }
    Some(days)
}

/// `24:00` is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_hours_are_read_as_people_write_them() {
        let read = |text| span(text).map(|span| (span.days, span.from, span.until));
        assert_eq!(read("Mon-Fri 09:00-17:30"), Ok((0b001_1111, 540, 1_050)));
        assert_eq!(read("sat,Sun"), Ok((0b110_0000, 0, DAY)));
        assert_eq!(read("Fri-Mon 22:00-04:00"), Ok((0b111_0001, 1_320, 240)));
        assert_eq!(read("00:00-24:00"), Ok((0b111_1111, 0, DAY)));
        for wrong in
            ["", "Mon-Fri 9-17", "Mon 09:00", "Day 09:00-10:00", "Mon 09:00-09:00", "Mon 25:00-26:00"]
        {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(zone("Europe/Berlin").is_ok() && zone("Berlin").is_err());
    }
}
