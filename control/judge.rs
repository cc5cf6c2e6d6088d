//! The judge. (Its author replaces this file.)
pub mod evidence;
