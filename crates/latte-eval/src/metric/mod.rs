//! From features to numbers. All sums are in f64, in the order of the rows, so that the same features give the same digits.

mod bootstrap;
mod cholesky;
mod clipsim;
mod eigenvalues;
mod flicker;
mod frechet;
mod inception_score;
mod infinity;
mod kernel;
mod manifold;
mod matrix;
mod moments;
mod numpy_random;
#[cfg(test)]
mod tests;

pub use bootstrap::{Interval, bootstrap_frechet};
pub use clipsim::clipsim;
pub use eigenvalues::symmetric_eigenvalues;
pub use flicker::temporal_flicker;
pub use frechet::{Frechet, frechet, frechet_of_moments};
pub use inception_score::{InceptionScore, inception_score};
pub use infinity::{Extrapolation, frechet_at_infinity};
pub use kernel::{KernelDistance, KernelOptions, Polynomial, kernel_distance, mmd_unbiased, mmd_with_diagonal};
pub use manifold::{Manifolds, manifolds};
pub use matrix::Features;
pub use moments::{Covariance, Moments};
pub use numpy_random::NumpyRandom;
