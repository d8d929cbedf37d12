//! The data set of `latte demo` (shapes that move across a dark background) and a measure of motion in clips of such a data set.

pub mod dataset;
mod error;
mod measured;
mod motion;
mod scene;

pub use error::{Error, Result};
pub use measured::{Measured, measure_folder};
pub use motion::{CHANCE, MIN_TRAVEL, Motion, measure};
pub use scene::{BACKGROUND, Class, DIRECTIONS, Direction, Scene, THINGS, Thing};
