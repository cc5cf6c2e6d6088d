//! The judges for compatibility against the numbers of those they stand for, and
//! on a virtual clock.

mod classic;
mod conditions;
mod kayenta;
mod pipecd;
mod rehearsed;
mod stage;
mod stages;
