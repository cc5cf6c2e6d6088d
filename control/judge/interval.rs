//! An interval for one failure rate that stays true however often it is looked
//! at. For showing, and for telling whether an objective was broken already.

use super::logs::log_beta;

/// All rates that `failed` of `requests` do not refute at level `alpha`. Counts
/// may be fractions, as those of fading history are.
pub fn rate_interval(failed: f64, requests: f64, alpha: f64) -> (f64, f64) {
    if requests <= 0.0 {
        return (0.0, 1.0);
    }
    let good = requests - failed;
    let mixture = log_beta(0.5 + failed, 0.5 + good) - log_beta(0.5, 0.5);
    let refuted = |rate: f64| {
        let mut log_e = mixture;
        if failed > 0.0 {
            log_e -= failed * rate.ln();
        }
        if good > 0.0 {
            log_e -= good * (-rate).ln_1p();
        }
        log_e > (1.0 / alpha).ln()
    };
    let middle = (failed / requests).clamp(1e-12, 1.0 - 1e-12);
    let low = if failed > 0.0 && refuted(1e-15) {
        bisect(middle, 1e-15, &refuted, |a, b| (a * b).sqrt())
    } else {
        0.0
    };
    let high = if good > 0.0 && refuted(1.0 - 1e-15) {
        bisect(middle, 1.0 - 1e-15, &refuted, |a, b| 0.5 * (a + b))
    } else {
        1.0
    };
    (low, high)
}

/// The last rate that stands, going from `stands` towards `falls`.
fn bisect(
    mut stands: f64,
    mut falls: f64,
    refuted: &impl Fn(f64) -> bool,
    middle: impl Fn(f64, f64) -> f64,
) -> f64 {
    for _ in 0..200 {
        let rate = middle(stands, falls);
        if refuted(rate) {
            falls = rate;
        } else {
            stands = rate;
        }
    }
    stands
}
