//! One thing asked of the fields of a message, whichever codec has read them.

use http::header::HeaderName;

use crate::head::Fields;
use crate::model::Predicate;
use crate::text::Pattern;

pub struct Question {
    name: HeaderName,
    value: Pattern,
    invert: bool,
}

impl Question {
    pub fn new(predicate: &Predicate) -> Result<Question, String> {
        let name = name_of(&predicate.name)?;
        Ok(Question { name, value: Pattern::new(&predicate.value)?, invert: predicate.invert })
    }

    /// As for routes: a missing field answers only a question about presence.
    pub fn holds(&self, fields: Fields<'_>) -> bool {
        let mut values = fields.values(&self.name).peekable();
        match values.peek() {
            Some(_) => values.any(|value| self.value.matches(value)) != self.invert,
            None => matches!(self.value, Pattern::Present) && self.invert,
        }
    }
}

pub fn name_of(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header name"))
}
