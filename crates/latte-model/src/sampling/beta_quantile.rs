//! Quantiles of the Beta(0.6, 0.6) distribution.

/// The value of both parameters of the distribution.
const SHAPE: f64 = 0.6;

/// The quantile of `p` (0 to 1): a fraction `p` of the distribution lies below it.
pub(super) fn quantile(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return p.clamp(0.0, 1.0);
    }
    // The distribution is symmetric: the upper half is computed from the lower half, where x keeps its digits.
    if p > 0.5 {
        return 1.0 - quantile(1.0 - p);
    }
    let (mut low, mut high) = (0.0, 0.5);
    let total = 2.0 * incomplete_beta(0.5);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if incomplete_beta(middle) / total < p {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// ∫₀ˣ (u (1−u))^(SHAPE−1) du for 0 <= x <= ½, by the power series of (1−u)^(SHAPE−1).
fn incomplete_beta(x: f64) -> f64 {
    let (mut coefficient, mut power, mut sum) = (1.0, 1.0, 0.0);
    for k in 0..200 {
        let k = f64::from(k);
        sum += coefficient * power / (SHAPE + k);
        coefficient *= (k + 1.0 - SHAPE) / (k + 1.0);
        power *= x;
    }
    sum * x.powf(SHAPE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_scipy() {
        // scipy.stats.beta.ppf(p, 0.6, 0.6)
        for (p, x) in [
            (0.0, 0.0),
            (0.001, 1.855873851745199e-05),
            (0.01, 0.0008612388215429059),
            (0.1, 0.03958440558878085),
            (0.3, 0.23401700387523572),
            (0.45, 0.430815501976733),
            (0.5, 0.5),
            (0.77, 0.8461624142323502),
            (1.0, 1.0),
        ] {
            assert!((quantile(p) - x).abs() < 1e-12, "{p}: {} instead of {x}", quantile(p));
        }
    }
}
