//! Where a function crosses zero, by Brent's method as Kayenta iterates it.
//!
//! The tolerance is absolute. Verdicts on small values (errors as fractions,
//! latencies in seconds) depend on it and on each step taken, so another root
//! finder that is as good would judge differently.

const TOLERANCE: f64 = 1e-4;
const PASSES: u32 = 1001;

/// Between `low` and `high`; where there is no crossing, where the search ends.
pub fn root(low: f64, high: f64, of: impl Fn(f64) -> f64) -> f64 {
    let (mut a, mut fa) = (low, of(low));
    let (mut b, mut fb) = (high, of(high));
    let (mut c, mut fc) = (a, fa);
    if fa == 0.0 {
        return a;
    }
    if fb == 0.0 {
        return b;
    }
    for _ in 0..PASSES {
        let last = b - a;
        if fc.abs() < fb.abs() {
            (a, b, c) = (b, c, b);
            (fa, fb, fc) = (fb, fc, fb);
        }
        let least = 2.0 * f64::EPSILON * b.abs() + TOLERANCE / 2.0;
        let mut step = (c - b) / 2.0;
        if step.abs() <= least || fb == 0.0 {
            return b;
        }
        if last.abs() >= least && fa.abs() > fb.abs() {
            step = interpolated([a, b, c], [fa, fb, fc], last, least).unwrap_or(step);
        }
        if step.abs() < least {
            step = if step > 0.0 { least } else { -least };
        }
        (a, fa) = (b, fb);
        b += step;
        fb = of(b);
        if (fb > 0.0 && fc > 0.0) || (fb < 0.0 && fc < 0.0) {
            (c, fc) = (a, fa);
        }
    }
    b
}

/// A step by the line or the parabola through the last points, where it falls
/// well inside.
fn interpolated([a, b, c]: [f64; 3], [fa, fb, fc]: [f64; 3], last: f64, least: f64) -> Option<f64> {
    let wide = c - b;
    let (mut p, mut q);
    if a == c {
        let slope = fb / fa;
        p = wide * slope;
        q = 1.0 - slope;
    } else {
        let (r, s, t) = (fa / fc, fb / fc, fb / fa);
        p = t * (wide * r * (r - s) - (b - a) * (s - 1.0));
        q = (r - 1.0) * (s - 1.0) * (t - 1.0);
    }
    if p > 0.0 {
        q = -q;
    } else {
        p = -p;
    }
    let inside = p < 0.75 * wide * q - (least * q).abs() / 2.0 && p < (last * q / 2.0).abs();
    inside.then(|| p / q)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_is_found_within_the_tolerance_and_no_nearer() {
        let root = root(0.0, 3.0, |x| x * x - 2.0);
        assert!((root - 2.0_f64.sqrt()).abs() < 1e-4, "{root}");
        // What is finer than the tolerance is not looked for: the nearer end is it.
        assert_eq!(super::root(0.0, 1e-5, |x| x - 4e-6), 0.0);
    }
}
