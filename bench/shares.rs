//! How sure one may be of what was counted: the bound on a share, and a mean with its error.

/// With 95 % confidence the true share is below this: exact, from the binomial distribution, one-sided
/// (Clopper and Pearson).
pub fn at_most(seen: usize, of: usize) -> f64 {
    if seen >= of {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if no_more_than(seen, of, middle) > 0.05 { low = middle } else { high = middle }
    }
    high
}

/// The chance of so few or fewer.
fn no_more_than(seen: usize, of: usize, share: f64) -> f64 {
    let odds = (share / (1.0 - share)).ln();
    let mut log = of as f64 * (-share).ln_1p();
    let mut sum = log.exp();
    for k in 1..=seen {
        log += ((of - k + 1) as f64 / k as f64).ln() + odds;
        sum += log.exp();
    }
    sum
}

/// `0.03 %`, with as many digits as say something.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 {
        return "0 %".to_owned();
    }
    let digits = (1.0 - percent.log10().floor()).clamp(0.0, 4.0) as usize;
    format!("{percent:.digits$} %")
}

/// A mean, and its standard error.
#[derive(Clone, Copy)]
pub struct Mean {
    pub value: f64,
    pub error: f64,
}

impl Mean {
    pub fn of(values: impl Iterator<Item = f64> + Clone) -> Mean {
        let n = values.clone().count() as f64;
        let value = values.clone().sum::<f64>() / n;
        let variance = values.map(|one| (one - value).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Mean { value, error: (variance / n).sqrt() }
    }
}

impl std::fmt::Display for Mean {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = usize::from(self.value < 1000.0);
        write!(f, "{:.digits$} ± {:.digits$}", self.value, self.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_tables() {
        // The rule of three, and two values from tables of the exact interval.
        assert!((at_most(0, 10_000) - 0.000_299_5).abs() < 1e-6, "{}", at_most(0, 10_000));
        assert!((at_most(1, 20) - 0.2161).abs() < 1e-4, "{}", at_most(1, 20));
        assert!((at_most(5, 100) - 0.1023).abs() < 1e-4, "{}", at_most(5, 100));
        assert_eq!(at_most(7, 7), 1.0);
    }

    #[test]
    fn shares_are_told_with_digits_that_matter() {
        assert_eq!([0.0, 0.000_3, 0.0123, 0.5].map(percent), ["0 %", "0.030 %", "1.2 %", "50 %"]);
    }
}
