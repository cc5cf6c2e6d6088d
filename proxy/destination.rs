//! Where a request would go, asked of a model that nobody serves yet.
//!
//! It compiles the model as the workers' table is compiled, so that the answer
//! cannot differ from theirs; nothing is bound and nobody is asked.

use crate::head::Head;
use crate::model::Model;
use crate::table::Action;
use crate::table::Table;

pub struct Routing(Table);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    Split(String),
    /// A route answers by itself.
    Answered {
        route: String,
    },
    /// Which route takes it is partly chance.
    Chance,
    Nowhere,
}

impl Routing {
    /// `None` where the model has problems.
    pub fn new(model: &Model) -> Option<Routing> {
        Table::compile(model, None, 1).ok().map(Routing)
    }

    /// `target` is the path with its query.
    pub fn destination(
        &self,
        method: &str,
        host: &str,
        target: &str,
        fields: &[(String, String)],
    ) -> Destination {
        let list: Vec<httparse::Header<'_>> =
            fields.iter().map(|(name, value)| httparse::Header { name, value: value.as_bytes() }).collect();
        let head = Head::of_list(method, target, host, &list);
        if self.0.host(&head).is_some_and(|host| host.random) {
            return Destination::Chance;
        }
        let Some(found) = self.0.find(&head, || 0) else { return Destination::Nowhere };
        match &found.route.action {
            Action::Split(split) => Destination::Split(self.0.splits[*split].cell.name.clone()),
            Action::Direct { .. } | Action::Redirect(_) => {
                Destination::Answered { route: found.route.name.clone() }
            }
        }
    }
}
