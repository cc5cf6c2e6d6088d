//! Windows of time in which more may go to the canary: days and hours of a time
//! zone. Pure: which moment it is, is told; what a zone's clock shows then is
//! known from the zone's rules.

use jiff::Timestamp;
use jiff::Zoned;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::clock::Moment;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// A name of the time zone database.
    pub zone: String,
    pub spans: Vec<Span>,
}

/// From a minute of the day on and before another, on these days; one that ends
/// before it begins goes on over midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Monday is the lowest of seven bits.
    pub days: u8,
    pub from: u16,
    pub until: u16,
}

impl Hours {
    pub fn is_open(&self, now: Moment) -> bool {
        let Some(local) = self.local(now) else { return false };
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = local.weekday();
        self.spans.iter().any(|span| span.holds(today, minute))
    }

    /// What the zone's clock shows, for people.
    pub fn clock(&self, now: Moment) -> String {
        let local = self.local(now);
        local.map_or_else(String::new, |local| local.strftime("%a %H:%M %Z").to_string())
    }

    fn local(&self, now: Moment) -> Option<Zoned> {
        let zone = TimeZone::get(&self.zone).ok()?;
        Some(Timestamp::from_millisecond(i64::try_from(now.0).ok()?).ok()?.to_zoned(zone))
    }
}

impl Span {
    fn holds(&self, today: Weekday, minute: u16) -> bool {
        let on = |day: Weekday| self.days & 1 << day.to_monday_zero_offset() != 0;
        if self.from < self.until {
            on(today) && (self.from..self.until).contains(&minute)
        } else {
            on(today) && minute >= self.from || on(today.previous()) && minute < self.until
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        let timestamp: Timestamp = text.parse().unwrap();
        Moment(u64::try_from(timestamp.as_millisecond()).unwrap())
    }

    fn hours(days: u8, from: u16, until: u16) -> Hours {
        Hours { zone: "Europe/Berlin".to_owned(), spans: vec![Span { days, from, until }] }
    }

    #[test]
    fn open_by_the_zones_clock_in_summer_and_winter() {
        let office = hours(0b001_1111, 9 * 60, 17 * 60);
        for (moment, open) in [
            ("2026-07-01T06:59:00Z", false),
            ("2026-07-01T07:00:00Z", true),
            ("2026-07-01T14:59:00Z", true),
            ("2026-07-01T15:00:00Z", false),
            ("2026-12-01T07:30:00Z", false),
            ("2026-12-01T08:00:00Z", true),
            ("2026-07-04T10:00:00Z", false),
        ] {
            assert_eq!(office.is_open(at(moment)), open, "{moment}");
        }
        assert_eq!(office.clock(at("2026-07-01T07:00:00Z")), "Wed 09:00 CEST");
    }

    #[test]
    fn a_span_may_go_over_midnight_and_belongs_to_the_day_it_begins_on() {
        // Friday nights.
        let night = hours(0b001_0000, 22 * 60, 4 * 60);
        assert!(night.is_open(at("2026-07-03T21:00:00Z")));
        assert!(night.is_open(at("2026-07-04T01:59:00Z")));
        assert!(!night.is_open(at("2026-07-04T02:00:00Z")));
        assert!(!night.is_open(at("2026-07-03T01:00:00Z")));
    }

    #[test]
    fn a_whole_day_is_a_day() {
        let sunday = hours(0b100_0000, 0, 24 * 60);
        assert!(sunday.is_open(at("2026-07-05T12:00:00Z")));
        assert!(!sunday.is_open(at("2026-07-06T12:00:00Z")));
    }
}
