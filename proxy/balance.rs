//! How endpoints take turns, as arithmetic: no endpoint, no clock and no request
//! is known here, only weights, keys and numbers.

mod maglev;
mod murmur;
mod ring;
mod slow;
mod turns;

pub use maglev::Maglev;
pub use ring::Ring;
pub use slow::slowed;
pub use turns::Turns;

/// An entry of a hash table: by what it is placed, and its weight over the sum
/// of all.
pub struct Keyed<'a> {
    pub key: &'a str,
    pub share: f64,
}
