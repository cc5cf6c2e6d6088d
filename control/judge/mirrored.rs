//! Mirrored traffic: the same request answered by both versions. Only pairs
//! that differ speak, and each is a fair coin while the versions are alike.

/// What a bet on odds `psi` wins on pairs that only one version failed.
pub fn factor(canary_only: u64, primary_only: u64, psi: f64) -> f64 {
    canary_only as f64 * (2.0 * psi / (1.0 + psi)).ln() + primary_only as f64 * (2.0 / (1.0 + psi)).ln()
}
