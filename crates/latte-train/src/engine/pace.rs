//! Warns early if a run would take more than a day.

use std::time::Duration;

use crate::engine::progress::{StepEvent, TrainingProgress};

/// Longer runs cause a warning.
const LONG: Duration = Duration::from_hours(24);
/// The first steps of a process are slower than those after them.
const STEPS: u64 = 3;
/// After this time the estimate is good enough, however few steps are done.
const ENOUGH: Duration = Duration::from_secs(30);

/// Warns once of a run that takes more than a day.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    is_known: bool,
}

impl Pace {
    /// After `steps` steps of this process, which took `elapsed`.
    pub(crate) fn warn(&mut self, event: &StepEvent, steps: u64, elapsed: Duration, progress: &mut dyn TrainingProgress) {
        if self.is_known || (steps < STEPS && elapsed < ENOUGH) {
            return;
        }
        self.is_known = true;
        if let Some(warning) = long_run(event.time_left) {
            progress.warning(&warning);
        }
    }
}

/// The warning for a run that takes `left`, if that is more than a day.
pub fn long_run(left: Duration) -> Option<String> {
    (left > LONG).then(|| {
        format!(
            "at this speed the run takes {:.1} days: fewer steps (`train.max_steps`), smaller frames (`data.size`), a larger patch or \
             a smaller model (`model.preset = \"Latte-S/8\"`) take less; configs/small.toml takes minutes",
            left.as_secs_f64() / LONG.as_secs_f64()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_takes_more_than_a_day_is_long() {
        assert_eq!(long_run(LONG), None);
        let days = long_run(LONG * 5 / 2).unwrap();
        assert!(days.contains("2.5 days") && days.contains("train.max_steps"), "{days}");
        assert!(long_run(Duration::MAX).is_some());
    }
}
