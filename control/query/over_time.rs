//! Functions of the points that a series has in a range.

use crate::series::Point;

use super::histogram::quantile_of;

/// What a counter's rate, or what else of it, is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    Rate,
    Increase,
    Delta,
}

/// Growth over the whole range, as if it had gone on to both its ends as it did
/// between the points: not further than half a step past them where the range
/// goes on for longer, nor to where a counter would be below zero.
pub fn extrapolated(points: &[Point], from: i64, to: i64, growth: Growth) -> Option<f64> {
    let ([first, .., last], is_counter) = (points, growth != Growth::Delta) else { return None };
    let mut result = last.value - first.value;
    if is_counter {
        for pair in points.windows(2) {
            if pair[1].value < pair[0].value {
                result += pair[0].value;
            }
        }
    }
    let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
    let mut to_start = seconds(from, first.at);
    let to_end = seconds(last.at, to);
    let sampled = seconds(first.at, last.at);
    let step = sampled / (points.len() - 1) as f64;
    if is_counter && result > 0.0 && first.value >= 0.0 {
        let to_zero = sampled * (first.value / result);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    let reach = step * 1.1;
    let mut whole = sampled;
    for gap in [to_start, to_end] {
        whole += if gap < reach { gap } else { step / 2.0 };
    }
    let mut factor = whole / sampled;
    if growth == Growth::Rate {
        factor /= seconds(from, to);
    }
    Some(result * factor)
}

/// Between the last two points.
pub fn instant(points: &[Point], is_rate: bool) -> Option<f64> {
    let [.., before, last] = points else { return None };
    let millis = last.at - before.at;
    if millis == 0 {
        return None;
    }
    let was_reset = is_rate && last.value < before.value;
    let step = if was_reset { last.value } else { last.value - before.value };
    Some(if is_rate { step / (millis as f64 / 1000.0) } else { step })
}

/// `x_over_time`, by `x`.
pub fn of(name: &str, points: &[Point]) -> Option<f64> {
    let last = points.last()?.value;
    let values = || points.iter().map(|point| point.value);
    Some(match name {
        "avg_over_time" => mean(points),
        "sum_over_time" => sum(values()),
        "count_over_time" => points.len() as f64,
        "last_over_time" => last,
        "first_over_time" => points[0].value,
        "present_over_time" => 1.0,
        "min_over_time" => values().fold(f64::NAN, |a, b| if b < a || a.is_nan() { b } else { a }),
        "max_over_time" => values().fold(f64::NAN, |a, b| if b > a || a.is_nan() { b } else { a }),
        "stdvar_over_time" => variance(points),
        "stddev_over_time" => variance(points).sqrt(),
        "changes" => pairs(points, |a, b| a != b && !(a.is_nan() && b.is_nan())),
        "resets" => pairs(points, |a, b| b < a),
        _ => return None,
    })
}

pub fn quantile(q: f64, points: &[Point]) -> f64 {
    quantile_of(q, points.iter().map(|point| point.value).collect())
}

/// Slope per second, and the value at `at`, of the straight line of least squares.
pub fn line(points: &[Point], at: i64) -> Option<(f64, f64)> {
    let [first, _, ..] = points else { return None };
    if points.iter().all(|point| point.value == first.value) {
        let value = first.value;
        return Some(if value.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, value) });
    }
    let count = points.len() as f64;
    let x = |point: &Point| (point.at - at) as f64 / 1000.0;
    let sum_x = sum(points.iter().map(x));
    let sum_y = sum(points.iter().map(|point| point.value));
    let sum_xy = sum(points.iter().map(|point| x(point) * point.value));
    let sum_x2 = sum(points.iter().map(|point| x(point) * x(point)));
    let slope = (sum_xy - sum_x * sum_y / count) / (sum_x2 - sum_x * sum_x / count);
    Some((slope, sum_y / count - slope * sum_x / count))
}

fn pairs(points: &[Point], is_meant: impl Fn(f64, f64) -> bool) -> f64 {
    points.windows(2).filter(|pair| is_meant(pair[0].value, pair[1].value)).count() as f64
}

/// Neumaier's: what is lost at each addition is kept beside the sum.
struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    const ZERO: Sum = Sum { sum: 0.0, lost: 0.0 };

    fn add(&mut self, value: f64) {
        let next = self.sum + value;
        if self.sum.abs() >= value.abs() {
            self.lost += (self.sum - next) + value;
        } else {
            self.lost += (value - next) + self.sum;
        }
        self.sum = next;
    }

    fn total(&self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut sum = Sum::ZERO;
    values.for_each(|value| sum.add(value));
    sum.total()
}

fn mean(points: &[Point]) -> f64 {
    let mut mean = Sum::ZERO;
    for (before, point) in points.iter().enumerate() {
        let (count, value) = ((before + 1) as f64, point.value);
        let so_far = mean.sum;
        if so_far.is_infinite() {
            let is_same = value.is_infinite() && (so_far > 0.0) == (value > 0.0);
            if is_same || value.is_finite() {
                continue;
            }
        }
        mean.add(value / count - so_far / count);
    }
    mean.total()
}

fn variance(points: &[Point]) -> f64 {
    let (mut mean, mut squares) = (Sum::ZERO, Sum::ZERO);
    for (before, point) in points.iter().enumerate() {
        let count = (before + 1) as f64;
        let delta = point.value - (mean.sum + mean.lost);
        mean.add(delta / count);
        squares.add(delta * (point.value - (mean.sum + mean.lost)));
    }
    (squares.sum + squares.lost) / points.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<Point> {
        (0..).zip(values).map(|(second, value)| Point { at: second * 1000, value: *value }).collect()
    }

    #[test]
    fn a_rate_reaches_to_the_ends_of_its_range_and_not_below_zero() {
        let rate = |values: &[f64], from, to| extrapolated(&points(values), from, to, Growth::Rate);
        assert_eq!(rate(&[10.0, 11.0, 12.0], 0, 2000), Some(1.0));
        assert_eq!(rate(&[10.0, 11.0, 12.0], -500, 2500), Some(1.0));
        // From the second step on it was zero, so it did not grow before.
        assert_eq!(rate(&[0.0, 2.0, 4.0], -1000, 2000), Some(4.0 / 3.0));
        // A counter that begins again has grown by what it has now.
        assert_eq!(rate(&[10.0, 3.0], 0, 1000), Some(3.0));
        assert_eq!(rate(&[10.0], 0, 1000), None);
    }

    #[test]
    fn a_sum_keeps_what_is_small() {
        assert_eq!(sum([1e100, 1.0, -1e100].into_iter()), 1.0);
        assert_eq!(of("stddev_over_time", &points(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])), Some(2.0));
    }
}
