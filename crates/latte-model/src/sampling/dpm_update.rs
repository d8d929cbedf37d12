//! The exponential integrator of DPM-Solver and DPM-Solver++ (Lu et al. 2022), for the ODE and for the SDE.
//!
//! A step from σₛ to σₜ, h = λₜ − λₛ, is a weighted sum of x, the prediction D0 at its start, the differences D1 and D2 that
//! approximate its first and second derivative in λ (in units of h), and noise.

use super::DpmAlgorithm;
use super::prediction::Factors;

/// The weights of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub(super) x: f64,
    pub(super) d0: f64,
    /// The weight of D1, to order 2 by the midpoint rule.
    pub(super) d1_midpoint: f64,
    /// The weight of D1, integrated exactly.
    pub(super) d1: f64,
    pub(super) d2: f64,
    pub(super) noise: f64,
}

/// The weights of the step from `sigma_s` to `sigma_t`, which exceeds `sigma_s` at most by rounding. `sigma_t` may be 0 if x0 is
/// interpolated; then only `x`, `d0` and `noise` are valid.
/// `noise` mean something.
pub(super) fn weights(algorithm: DpmAlgorithm, sigma_s: f64, sigma_t: f64) -> Weights {
    let (s, t) = (Factors::of_sigma(sigma_s), Factors::of_sigma(sigma_t));
    let h = (sigma_s.ln() - sigma_t.ln()).max(0.0);
    match algorithm {
        DpmAlgorithm::DpmSolverPlusPlus => integrate(t.sigma / s.sigma, -t.alpha, -h),
        DpmAlgorithm::DpmSolver => integrate(t.alpha / s.alpha, -t.sigma, h),
        DpmAlgorithm::SdeDpmSolverPlusPlus => {
            let (scale, z) = (-t.alpha, -2.0 * h);
            let ode = integrate(t.sigma / s.sigma * (-h).exp(), scale, z);
            // Reference quirk: diffusers has the wrong sign at the ½ in this weight, so that noise in D2 is not reduced and order 3
            // does not converge. Kept for parity; order 2 is right.
            Weights { d2: ode.d2 + scale, noise: t.sigma * (-z.exp_m1()).sqrt(), ..ode }
        }
        DpmAlgorithm::SdeDpmSolver => {
            let ode = integrate(t.alpha / s.alpha, -2.0 * t.sigma, h);
            Weights { noise: t.sigma * (2.0 * h).exp_m1().sqrt(), ..ode }
        }
    }
}

/// The integrals of eᶻ times 1, the distance and half its square.
fn integrate(x: f64, scale: f64, z: f64) -> Weights {
    let e = z.exp_m1();
    // In a step of length 0 the differences have no weight.
    let (d1, d2) = if z == 0.0 { (0.0, 0.0) } else { (e / z - 1.0, (e - z) / (z * z) - 0.5) };
    Weights { x, d0: scale * e, d1_midpoint: 0.5 * scale * e, d1: scale * d1, d2: scale * d2, noise: 0.0 }
}
