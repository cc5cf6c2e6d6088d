//! Metrics as protobuf, for the native histograms that only this format carries.
//!
//! The messages are those of `io.prometheus.client`, by their published field
//! numbers, as far as we fill them. A fine bucket goes whole into the exponential
//! bucket that holds its middle: the fine ones are three times as fine, so at most
//! 1.6 % off.

use std::collections::BTreeMap;

use prost::Message;
use serin_proxy::exemplars::ExemplarReading;
use serin_proxy::histogram::{self, lower_us};

use super::page::{Family, Kind, Shown, Sink};
use super::text::{REQUEST_ID, id_of};

pub const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// Eight buckets to each doubling.
const SCHEMA: i32 = 3;
/// What took no whole microsecond is zero.
const ZERO_SECONDS: f64 = 1e-6;

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    help: Option<String>,
    /// 0 counter, 1 gauge, 4 histogram.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
    #[prost(message, repeated, tag = "4")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct LabelPair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Number {
    #[prost(double, optional, tag = "1")]
    value: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    count: Option<u64>,
    #[prost(double, optional, tag = "2")]
    sum: Option<f64>,
    #[prost(message, repeated, tag = "3")]
    buckets: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, optional, tag = "7")]
    zero_count: Option<u64>,
    #[prost(message, repeated, tag = "12")]
    positive_spans: Vec<BucketSpan>,
    #[prost(sint64, repeated, packed = "false", tag = "13")]
    positive_deltas: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, optional, tag = "1")]
    below: Option<u64>,
    #[prost(double, optional, tag = "2")]
    bound: Option<f64>,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<Exemplar>,
}

#[derive(Clone, PartialEq, Message)]
struct Exemplar {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<LabelPair>,
    #[prost(double, optional, tag = "2")]
    value: Option<f64>,
    #[prost(message, optional, tag = "3")]
    at: Option<Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct BucketSpan {
    #[prost(sint32, optional, tag = "1")]
    offset: Option<i32>,
    #[prost(uint32, optional, tag = "2")]
    length: Option<u32>,
}

#[derive(Default)]
pub struct Protobuf {
    families: BTreeMap<&'static str, MetricFamily>,
}

impl Protobuf {
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for family in self.families.into_values() {
            bytes.extend(family.encode_length_delimited_to_vec());
        }
        bytes
    }

    fn add(&mut self, family: Family, labels: &[(&str, &str)], metric: Metric) {
        let kind = match family.kind {
            Kind::Counter => 0,
            Kind::Gauge => 1,
            Kind::Histogram => 4,
        };
        let place = self.families.entry(family.name).or_insert_with(|| MetricFamily {
            name: Some(family.name.to_owned()),
            help: Some(family.help.to_owned()),
            kind: Some(kind),
            metrics: Vec::new(),
        });
        let labels = labels.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| LabelPair {
            name: Some((*name).to_owned()),
            value: Some((*value).to_owned()),
        });
        place.metrics.push(Metric { labels: labels.collect(), ..metric });
    }
}

impl Sink for Protobuf {
    fn number(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        let number = Some(Number { value: Some(value) });
        let metric = match family.kind {
            Kind::Counter => Metric { counter: number, ..Metric::default() },
            Kind::Gauge | Kind::Histogram => Metric { gauge: number, ..Metric::default() },
        };
        self.add(family, labels, metric);
    }

    fn histogram(&mut self, family: Family, labels: &[(&str, &str)], shown: &Shown<'_>) {
        let exemplars = shown.exemplified();
        let bounds = shown.edges.iter().map(|edge| edge.bound).chain([f64::INFINITY]);
        let below = shown.below.iter().copied().chain([shown.count]);
        let buckets = bounds.zip(below).zip(&exemplars).map(|((bound, below), exemplar)| Bucket {
            below: Some(below),
            bound: Some(bound),
            exemplar: exemplar.as_ref().map(exemplar_of),
        });
        let mut histogram = shown.fine.map(native).unwrap_or_default();
        histogram.count = Some(shown.count);
        histogram.sum = Some(shown.sum);
        histogram.buckets = buckets.collect();
        self.add(family, labels, Metric { histogram: Some(histogram), ..Metric::default() });
    }
}

fn exemplar_of(reading: &ExemplarReading) -> Exemplar {
    let label = LabelPair { name: Some(REQUEST_ID.to_owned()), value: Some(id_of(reading)) };
    let (seconds, millis) = (reading.unix_ms / 1000, reading.unix_ms % 1000);
    Exemplar {
        labels: vec![label],
        value: Some(reading.us as f64 / 1e6),
        at: Some(Timestamp { seconds: seconds as i64, nanos: millis as i32 * 1_000_000 }),
    }
}

/// Only the exponential buckets; neighbours stand in one span.
fn native(fine: &histogram::Histogram) -> Histogram {
    let mut native = Histogram {
        schema: Some(SCHEMA),
        zero_threshold: Some(ZERO_SECONDS),
        zero_count: Some(fine.counts()[0]),
        ..Histogram::default()
    };
    let mut buckets: BTreeMap<i32, i64> = BTreeMap::new();
    for (bucket, count) in fine.counts().iter().enumerate().skip(1).filter(|(_, count)| **count > 0) {
        let (lower, upper) = (lower_us(bucket), lower_us(bucket + 1));
        let middle_seconds = (lower as f64 + (upper - lower) as f64 / 2.0) / 1e6;
        let place = (middle_seconds.log2() * f64::from(1 << SCHEMA)).ceil() as i32;
        *buckets.entry(place).or_default() += *count as i64;
    }
    let (mut next, mut before) = (None, 0);
    for (place, count) in buckets {
        match (native.positive_spans.last_mut(), next) {
            (Some(span), Some(next)) if next == place => span.length = span.length.map(|length| length + 1),
            (_, next) => {
                let offset = place - next.unwrap_or(0);
                native.positive_spans.push(BucketSpan { offset: Some(offset), length: Some(1) });
            }
        }
        next = Some(place + 1);
        native.positive_deltas.push(count - before);
        before = count;
    }
    native
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_histogram_holds_every_value_once() {
        let mut fine = histogram::Histogram::default();
        for us in [0, 1_000, 1_000, 1_010, 2_000_000, 60_000_000] {
            fine.record(us);
        }
        let native = native(&fine);
        assert_eq!(native.zero_count, Some(1));
        let (mut counts, mut count) = (Vec::new(), 0);
        for delta in &native.positive_deltas {
            count += delta;
            counts.push(count);
        }
        assert_eq!(counts.iter().sum::<i64>(), 5);
        let lengths: u32 = native.positive_spans.iter().filter_map(|span| span.length).sum();
        assert_eq!(lengths as usize, counts.len());
        // One millisecond lies in the bucket that ends at or after it.
        let place = native.positive_spans[0].offset.expect("a span begins somewhere");
        let end = 2_f64.powf(f64::from(place) / 8.0);
        assert!((0.001 * 0.99..0.001 * 1.1).contains(&end), "{end}");
    }
}
