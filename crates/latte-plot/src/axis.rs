//! Axes: where a value stands, and which values are written beside it.

/// An axis from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    min: f64,
    max: f64,
    log: bool,
}

impl Axis {
    /// The axis that holds `values`, with a little room around them. With `log` all of them are above 0.
    pub(crate) fn around(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (min, max) = ends(values);
        if log {
            let room = if min == max { 2.0 } else { (max / min).powf(0.04) };
            return Self { min: min / room, max: max * room, log };
        }
        let room = match max - min {
            0.0 if max == 0.0 => 1.0,
            0.0 => 0.1 * max.abs(),
            length => 0.04 * length,
        };
        // Nothing that is never negative gets room below 0.
        let below = min - room;
        Self { min: if min >= 0.0 { below.max(0.0) } else { below }, max: max + room, log }
    }

    /// The axis that begins and ends with the outermost of `values`, or with 0 where that is next to them: steps count from 1.
    pub(crate) fn between(values: impl Iterator<Item = f64>) -> Self {
        let (min, max) = ends(values);
        let min = if min > 0.0 && min < 0.05 * max { 0.0 } else { min };
        if min < max { Self { min, max, log: false } } else { Self::around([min].into_iter(), false) }
    }

    /// Where `value` stands, 0 to 1; `None` beyond the ends.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        let place = self.place_beyond(value);
        (-1e-9..=1.0 + 1e-9).contains(&place).then_some(place)
    }

    /// As [`place`](Self::place), also beyond the ends; what a logarithmic axis cannot show is infinitely far below.
    pub(crate) fn place_beyond(&self, value: f64) -> f64 {
        if self.log {
            if value > 0.0 { (value / self.min).ln() / (self.max / self.min).ln() } else { f64::NEG_INFINITY }
        } else {
            (value - self.min) / (self.max - self.min)
        }
    }

    /// The values to write beside the axis, about `wanted` of them: where they stand, and their text.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        if self.log {
            let decades = (self.max / self.min).log10();
            if decades >= 1.0 {
                let multiples: &[f64] = if decades < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                // Many decades: not every one of them.
                let every = (decades / wanted as f64).ceil().max(1.0) as i32;
                let powers = (self.min.log10().floor() as i32..=self.max.log10().ceil() as i32).filter(|p| p % every == 0);
                let values = powers.flat_map(|power| multiples.iter().map(move |m| m * 10_f64.powi(power)));
                return self.written(values, 0.0);
            }
        }
        let step = nice_step((self.max - self.min) / wanted.max(1) as f64);
        let first = (self.min / step).ceil() as i64;
        let last = (self.max / step).floor() as i64;
        self.written((first..=last).map(|n| n as f64 * step), step)
    }

    fn written(&self, values: impl Iterator<Item = f64>, step: f64) -> Vec<(f64, String)> {
        values.filter_map(|value| Some((self.place(value)?, text(value, step)))).collect()
    }
}

/// The least and the greatest; 1 where there is none.
fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (min, max) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| (min.min(v), max.max(v)));
    if min <= max { (min, max) } else { (1.0, 1.0) }
}

/// The number of the form 1, 2 or 5 times a power of ten that is nearest to `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let multiple = match rough / power {
        m if m < 2_f64.sqrt() => 1.0,
        m if m < 10_f64.sqrt() => 2.0,
        m if m < 50_f64.sqrt() => 5.0,
        _ => 10.0,
    };
    multiple * power
}

/// `value` in as few characters as tell it from its neighbours, which are `step` away; with step 0 as short as it can be.
fn text(value: f64, step: f64) -> String {
    let finest = if step > 0.0 { step } else { value.abs() };
    let decimals = |finest: f64| (-finest.log10() + 1e-9).ceil().max(0.0) as usize;
    match value.abs() {
        0.0 => "0".into(),
        large if large >= 1e6 && finest >= 1e4 => format!("{}M", trimmed(value / 1e6, decimals(finest / 1e6))),
        large if large >= 1e4 && finest >= 10.0 => format!("{}k", trimmed(value / 1e3, decimals(finest / 1e3))),
        small if small < 1e-3 => {
            let power = small.log10().floor();
            let digits = if step > 0.0 { (power - step.log10().floor()).max(0.0) as usize } else { 0 };
            format!("{}e{power:.0}", trimmed(value / 10_f64.powf(power), digits))
        }
        _ => trimmed(value, decimals(finest)),
    }
}

/// With at most `decimals` decimals, and none that say nothing.
fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[f64], log: bool, wanted: usize) -> Vec<String> {
        Axis::around(values.iter().copied(), log).ticks(wanted).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_short() {
        assert_eq!(texts(&[0.0, 1.0], false, 5), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(texts(&[1.0, 1500.0], false, 4), ["0", "500", "1000", "1500"]);
        assert_eq!(texts(&[1.0, 150_000.0], false, 4), ["0", "50k", "100k", "150k"]);
        assert_eq!(texts(&[0.0, 2.5e6], false, 5), ["0", "500k", "1M", "1.5M", "2M", "2.5M"]);
        assert_eq!(texts(&[0.0, 1e-4], false, 2), ["0", "5e-5", "1e-4"]);
        assert_eq!(texts(&[0.921, 0.934], false, 3), ["0.925", "0.93"]);
        assert_eq!(texts(&[-1.0, 1.0], false, 4), ["-1", "-0.5", "0", "0.5", "1"]);
        assert_eq!(texts(&[10_001.0, 10_005.0], false, 4), ["10001", "10002", "10003", "10004", "10005"]);
    }

    #[test]
    fn logarithmic_ticks_are_powers_and_their_parts() {
        assert_eq!(texts(&[0.01, 100.0], true, 5), ["0.01", "0.1", "1", "10", "100"]);
        assert_eq!(texts(&[0.1, 3.0], true, 5), ["0.1", "0.2", "0.5", "1", "2"]);
        assert_eq!(texts(&[0.3, 0.5], true, 5), ["0.3", "0.35", "0.4", "0.45", "0.5"]);
        assert_eq!(texts(&[1e-12, 1.0], true, 5), ["1e-12", "1e-9", "1e-6", "1e-3", "1"].map(|t| t.replace("1e-3", "0.001")));
        let places: Vec<f64> = Axis::around([0.01, 100.0].into_iter(), true).ticks(5).into_iter().map(|(p, _)| p).collect();
        assert!(places.windows(2).all(|p| (p[1] - p[0] - (places[1] - places[0])).abs() < 1e-9), "{places:?}");
    }

    #[test]
    fn anything_has_an_axis() {
        for values in [vec![], vec![0.0], vec![3.0], vec![-2.0, -2.0], vec![1e-300, 1e300]] {
            let axis = Axis::around(values.iter().copied(), false);
            assert!(axis.min < axis.max, "{axis:?}");
            assert!(values.iter().all(|v| axis.place(*v).is_some()), "{axis:?}");
            axis.ticks(5);
        }
        let log = Axis::around([2.0].into_iter(), true);
        assert_eq!((log.place(2.0), log.place(0.0), log.place(-1.0)), (Some(0.5), None, None));
        let exact = Axis::between([30.0, 100.0].into_iter());
        assert_eq!((exact.place(30.0), exact.place(100.0), exact.place(29.0)), (Some(0.0), Some(1.0), None));
        assert_eq!(Axis::between([1.0, 100.0].into_iter()).place(0.0), Some(0.0));
        assert!(Axis::between([5.0].into_iter()).place(5.0).is_some());
    }
}
