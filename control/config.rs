//! Configuration text in; the whole of it, or all its problems, out.
//!
//! Pure: no file is read here but through a reader that is given, and no name
//! resolved.

pub mod native;

pub mod loaded;

pub mod fields;

pub mod tree;

pub mod files;

pub mod problem;

pub use files::{Files, Referenced};
pub use loaded::{Dialect, Drain, Loaded, Metrics};
pub use problem::{Problem, Severity};

use fields::Spot;
use problem::Problems;

/// `origin` is the file's name for messages; `files` are those it may refer to.
pub fn load(origin: &str, text: &str, files: &Files) -> Result<Loaded, Vec<Problem>> {
    let problems = Problems::new(origin);
    let loaded =
        tree::parse(text, &problems).and_then(|tree| native::read(&Spot::root(&tree, &problems, files)));
    match loaded {
        Some(loaded) if !problems.any_error() => Ok(Loaded { warnings: problems.into_list(), ..loaded }),
        _ => Err(problems.into_list()),
    }
}
