//! What counts as a failure of a version, where the usual is not meant.

use std::time::Duration;

use serde::Serialize;

use super::Predicate;

/// Signs by which answers are told apart. What is to be ignored comes first, then
/// failures, then successes; the rest counts as usual. What brought no answer has
/// always failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct OutcomeRules {
    /// Counts for nobody.
    pub ignored: AnswerSigns,
    pub failure: AnswerSigns,
    pub success: AnswerSigns,
    /// An answer whose last byte comes later than this has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slower_than: Option<Duration>,
}

/// Any of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AnswerSigns {
    /// Ranges of statuses, both ends included.
    pub statuses: Vec<(u16, u16)>,
    /// Of gRPC, in the head or in trailers.
    pub grpc: Vec<u32>,
    /// Of the answer's head.
    pub headers: Vec<Predicate>,
}
