//! Computes numbers from features. All sums are in f64, in the order of the rows, so that the same features give the same digits.

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

pub(crate) use bootstrap::check_resamples;
pub(crate) use inception_score::check_splits;
pub(crate) use infinity::check_count as check_extrapolated;
pub(crate) use kernel::check_pairs;
pub(crate) use manifold::check_neighbours;
pub(crate) use moments::check_unbiased;

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
