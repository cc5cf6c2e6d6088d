//! Where comparing answers stands, as metrics.

use super::page::Page;
use crate::answers::Board;
use crate::names;
use crate::names::label;

pub fn of(page: &mut Page<'_>, board: &Board) {
    for (service, standing) in board.standings() {
        let labels = [(label::SERVICE, service.as_str())];
        let help = "Mirrored requests whose answers were compared, since the rollout began.";
        page.gauge(names::ANSWERS_COMPARED, help, &labels, standing.compared as f64);
        let help = "Places at which answers differ by the version, see /differences.";
        page.gauge(names::ANSWERS_DIFFERING, help, &labels, standing.differing as f64);
    }
}
