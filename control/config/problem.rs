//! What is wrong with a configuration, and where: file, line, field, sentence.

use std::cell::RefCell;
use std::fmt;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file (or other source) the text came from.
    pub origin: String,
    pub line: Option<usize>,
    /// The field, as `services.web.weights`; empty for the document itself.
    pub path: String,
    pub severity: Severity,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is taken, but likely not what was meant.
    Warning,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if self.severity == Severity::Warning {
            f.write_str(": warning")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Collects problems while a document is read. Readers hold it by shared
/// reference, so that every part can report without passing it through.
pub struct Problems {
    origin: String,
    list: RefCell<Vec<Problem>>,
}

impl Problems {
    pub fn new(origin: &str) -> Problems {
        Problems { origin: origin.to_owned(), list: RefCell::default() }
    }

    pub fn report(&self, severity: Severity, line: Option<usize>, path: &str, text: impl Into<String>) {
        self.list.borrow_mut().push(Problem {
            origin: self.origin.clone(),
            line,
            path: path.to_owned(),
            severity,
            text: text.into(),
        });
    }

    /// Adds what was found in another document.
    pub fn take(&self, other: Problems) {
        self.list.borrow_mut().extend(other.into_list());
    }

    pub fn any_error(&self) -> bool {
        self.list.borrow().iter().any(|problem| problem.severity == Severity::Error)
    }

    /// In the order of the lines they speak of.
    pub fn into_list(self) -> Vec<Problem> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|problem| problem.line);
        list
    }
}
