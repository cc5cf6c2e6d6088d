//! Arithmetic on logarithms, odds and rates. Evidence lives in natural logs
//! only, so nothing here overflows, however long a rollout takes.

/// Rates nearer to 0 or 1 than this are taken to be this near.
pub const RATE_MIN: f64 = 1e-9;
pub const RATE_MAX: f64 = 1.0 - 1e-9;

pub fn clamp_rate(rate: f64) -> f64 {
    rate.clamp(RATE_MIN, RATE_MAX)
}

/// `ln(e^a + e^b)`.
pub fn log_add(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY {
        return b;
    }
    if b == f64::NEG_INFINITY {
        return a;
    }
    a.max(b) + (-(a - b).abs()).exp().ln_1p()
}

/// `ln` of the sum of the exponentials; of nothing, minus infinity.
pub fn log_sum(values: &[f64]) -> f64 {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values.iter().map(|value| (value - max).exp()).sum::<f64>().ln()
}

/// `ln` of the mean of `e^log` under weights that sum to at most one.
pub fn log_mean(parts: &[(f64, f64)]) -> f64 {
    let logs: Vec<f64> = parts.iter().map(|(weight, log)| weight.ln() + log).collect();
    log_sum(&logs)
}

pub fn odds(rate: f64) -> f64 {
    rate / (1.0 - rate)
}

pub fn from_odds(odds: f64) -> f64 {
    odds / (1.0 + odds)
}

/// Divergence of a coin with probability `a` from one with `b`, in nats.
pub fn divergence(a: f64, b: f64) -> f64 {
    let mut nats = 0.0;
    if a > 0.0 {
        nats += a * (a / b).ln();
    }
    if a < 1.0 {
        nats += (1.0 - a) * ((-a).ln_1p() - (-b).ln_1p());
    }
    nats
}

/// How much it says, in nats, that `count` of `n` is more than a share `rate`.
pub fn excess(count: u64, n: u64, rate: f64) -> f64 {
    let share = if n == 0 { 0.0 } else { count.min(n) as f64 / n as f64 };
    if share > rate { n as f64 * divergence(share, clamp_rate(rate)) } else { 0.0 }
}

/// `n ln(value)`, and nothing where nothing was counted.
pub fn times_log(n: f64, value: f64) -> f64 {
    if n == 0.0 { 0.0 } else { n * value.ln() }
}

/// Logarithm of the beta function.
pub fn log_beta(a: f64, b: f64) -> f64 {
    log_gamma(a) + log_gamma(b) - log_gamma(a + b)
}

/// Coefficients of 1/x, 1/x^3, ... in Stirling's series: B(2n) / (2n (2n - 1)).
const STIRLING: [f64; 8] = [
    1.0 / 12.0,
    -1.0 / 360.0,
    1.0 / 1260.0,
    -1.0 / 1680.0,
    1.0 / 1188.0,
    -691.0 / 360_360.0,
    1.0 / 156.0,
    -3617.0 / 122_400.0,
];

/// From here on the series above is exact to the last bit.
const STIRLING_FROM: f64 = 12.0;

/// Logarithm of the gamma function, for positive arguments.
fn log_gamma(x: f64) -> f64 {
    let mut shifted = x;
    let mut product = 1.0;
    while shifted < STIRLING_FROM {
        product *= shifted;
        shifted += 1.0;
    }
    let inverse_square = 1.0 / (shifted * shifted);
    let series = STIRLING.iter().rev().fold(0.0, |sum, c| sum * inverse_square + c) / shifted;
    let half_log_tau = 0.5 * std::f64::consts::TAU.ln();
    (shifted - 0.5) * shifted.ln() - shifted + half_log_tau + series - product.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_gamma_knows_factorials_and_the_half() {
        let mut factorial = 1.0_f64;
        for n in 1..30 {
            let error = (log_gamma(f64::from(n) + 1.0) - factorial.mul_add(f64::from(n), 0.0).ln()).abs();
            factorial *= f64::from(n);
            assert!(error < 1e-13 * factorial.ln().max(1.0), "{n}!: off by {error}");
        }
        assert!((log_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-14);
    }

    #[test]
    fn sums_survive_values_beyond_the_range_of_exp() {
        assert_eq!(log_sum(&[900.0, -900.0]), 900.0);
        assert_eq!(log_add(f64::NEG_INFINITY, 3.0), 3.0);
        assert_eq!(log_sum(&[]), f64::NEG_INFINITY);
    }
}
