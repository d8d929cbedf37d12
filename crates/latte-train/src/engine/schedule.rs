//! The learning rate of each optimiser step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// What the learning rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays (the reference's choice).
    #[default]
    Constant,
    /// It falls to the minimum along half a cosine, reached at the last step.
    Cosine,
}

/// Warm-up followed by a constant or a cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrSchedule {
    /// The rate after the warm-up.
    pub peak: f64,
    /// The rate of the last step (cosine only).
    pub minimum: f64,
    /// How many steps the warm-up takes; 0 for none.
    pub warmup_steps: u64,
    /// How many steps the whole run takes.
    pub max_steps: u64,
    /// What comes after the warm-up.
    pub decay: Decay,
}

impl LrSchedule {
    /// The rate of optimiser step `step`, counted from 1.
    ///
    /// The warm-up is `peak · step / warmup_steps`: the first step already moves the weights, and step `warmup_steps` is the
    /// first with the full rate. The cosine runs from there to `minimum` at `max_steps`; steps beyond keep `minimum`.
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.peak * step as f64 / self.warmup_steps as f64;
        }
        match self.decay {
            Decay::Constant => self.peak,
            Decay::Cosine => {
                let start = self.warmup_steps.max(1);
                let length = self.max_steps.saturating_sub(start).max(1);
                let progress = (step.saturating_sub(start) as f64 / length as f64).min(1.0);
                self.minimum + (self.peak - self.minimum) * 0.5 * (1.0 + (PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> LrSchedule {
        LrSchedule { peak: 1.0, minimum: 0.1, warmup_steps: 10, max_steps: 110, decay }
    }

    #[test]
    fn warm_up_is_a_ramp_that_ends_at_the_peak() {
        for decay in [Decay::Constant, Decay::Cosine] {
            let s = schedule(decay);
            assert_eq!(s.at(1), 0.1);
            assert_eq!(s.at(5), 0.5);
            assert_eq!(s.at(10), 1.0);
        }
    }

    #[test]
    fn constant_stays() {
        let s = schedule(Decay::Constant);
        assert_eq!(s.at(11), 1.0);
        assert_eq!(s.at(1_000_000), 1.0);
    }

    #[test]
    fn cosine_falls_from_the_peak_to_the_minimum_through_the_middle() {
        let s = schedule(Decay::Cosine);
        assert!((s.at(60) - 0.55).abs() < 1e-12, "{}", s.at(60));
        assert!((s.at(110) - 0.1).abs() < 1e-12, "{}", s.at(110));
        assert!((s.at(500) - 0.1).abs() < 1e-12);
        assert!((10..110).all(|i| s.at(i + 1) < s.at(i)));
    }

    #[test]
    fn no_warm_up_begins_at_the_peak() {
        let s = LrSchedule { warmup_steps: 0, ..schedule(Decay::Cosine) };
        assert_eq!(s.at(1), 1.0);
    }
}
