//! Threshold rules as other tools apply them: strikes at an interval, as Flagger
//! counts failed checks, and measurements with limits, as Argo runs an analysis.
//!
//! They follow their models where these are blunt, so that a policy that was
//! brought along does what it did. What a policy cannot do is said when it is
//! read, not mended here.

pub mod measurements;
pub mod strikes;
