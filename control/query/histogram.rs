//! Quantiles: of values, and of counts below bounds.

/// Read between the two nearest values.
pub fn quantile_of(q: f64, mut values: Vec<f64>) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    // NaN is below every number.
    values.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor() as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Of a histogram told by cumulative counts under inclusive upper bounds, read as
/// if the values of a bucket were spread evenly over it.
pub fn quantile_of_buckets(q: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
        return f64::NAN;
    }
    buckets.dedup_by(|later, kept| {
        let is_same = later.0 == kept.0;
        if is_same {
            kept.1 += later.1;
        }
        is_same
    });
    // Scraped or rated apart, counts may fall short of those below them.
    let mut most = f64::NEG_INFINITY;
    for (_, count) in &mut buckets {
        most = if *count > most { *count } else { most };
        *count = if *count < most { most } else { *count };
    }
    let last = buckets.len() - 1;
    let all = buckets[last].1;
    if last == 0 || all == 0.0 || all.is_nan() {
        return f64::NAN;
    }
    let mut rank = q * all;
    let at = buckets[..last].partition_point(|(_, count)| *count < rank);
    if at == last {
        return buckets[last - 1].0;
    }
    let (end, mut count) = buckets[at];
    if at == 0 && end <= 0.0 {
        return end;
    }
    let mut begin = 0.0;
    if at > 0 {
        begin = buckets[at - 1].0;
        count -= buckets[at - 1].1;
        rank -= buckets[at - 1].1;
    }
    begin + (end - begin) * (rank / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_read_between_values() {
        assert_eq!(quantile_of(0.5, vec![3.0, 1.0]), 2.0);
        assert_eq!(quantile_of(1.0, vec![3.0, 1.0, 2.0]), 3.0);
        assert_eq!(quantile_of(-0.1, vec![1.0]), f64::NEG_INFINITY);
        assert!(quantile_of(0.5, Vec::new()).is_nan());
    }

    #[test]
    fn buckets_are_read_evenly_and_the_last_is_open() {
        let buckets = || vec![(f64::INFINITY, 10.0), (1.0, 5.0), (2.0, 9.0)];
        assert_eq!(quantile_of_buckets(0.5, buckets()), 1.0);
        assert_eq!(quantile_of_buckets(0.7, buckets()), 1.5);
        assert_eq!(quantile_of_buckets(0.99, buckets()), 2.0);
        assert!(quantile_of_buckets(0.5, vec![(1.0, 5.0)]).is_nan());
        assert!(quantile_of_buckets(0.5, vec![(1.0, 0.0), (f64::INFINITY, 0.0)]).is_nan());
    }
}
