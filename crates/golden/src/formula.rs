//! Weights and pixels that a formula gives, for networks whose weights would be too large a file
//! (`testdata/golden/README.md` has the formula).

/// Numbers in [0, 1) that belong to a text.
#[derive(Debug, Clone, Copy)]
pub struct Formula {
    seed: u64,
}

impl Formula {
    /// Those of `text`.
    pub fn of(text: &str) -> Self {
        let seed =
            text.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3));
        Self { seed }
    }

    /// Number `index`.
    pub fn number(self, index: usize) -> f64 {
        let mut z = self.seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f64 / f64::from(1 << 24)
    }
}

/// The values of the parameter called `name`, row-major.
pub fn formula_weight(name: &str, shape: &[usize]) -> Vec<f32> {
    let formula = Formula::of(name);
    let len: usize = shape.iter().product();
    let is_norm = name.rsplit('.').nth(1).is_some_and(|part| part == "bn");
    let value = |u: f64| {
        if name.ends_with(".running_var") {
            0.5 + u
        } else if name.ends_with(".running_mean") {
            (2.0 * u - 1.0) * 0.2
        } else if is_norm && name.ends_with(".weight") {
            1.0
        } else if shape.len() >= 2 {
            let fan_in: usize = shape[1..].iter().product();
            (2.0 * u - 1.0) * (6.0 / fan_in as f64).sqrt()
        } else {
            (2.0 * u - 1.0) * 0.2
        }
    };
    (0..len).map(|index| value(formula.number(index)) as f32).collect()
}

/// `n` clips of `t` frames, `[n, t, h, w, 3]`.
pub fn formula_pixels(tag: &str, [n, t, h, w]: [usize; 4]) -> Vec<u8> {
    let formula = Formula::of(&format!("pixels/{tag}"));
    let value = |index: usize| {
        let (place, k) = (index / 3, (index % 3) as f64);
        let (x, y, frame) = ((place % w) as f64, (place / w % h) as f64, (place / w / h % t) as f64);
        let wave = ((x + 3.0 * frame) * 0.07 + k).sin() + ((y - 2.0 * frame) * 0.05 * (k + 1.0)).cos();
        let base = wave * 0.25 + 0.5;
        ((0.8 * base + 0.2 * formula.number(index)) * 255.0).clamp(0.0, 255.0).floor() as u8
    };
    (0..n * t * h * w * 3).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_readme() {
        let formula = Formula::of("test");
        for (index, expected) in [0.27604425, 0.88048589, 0.93490666].into_iter().enumerate() {
            assert!((formula.number(index) - expected).abs() < 1e-8);
        }
    }

    #[test]
    fn parameters_have_their_ranges() {
        assert_eq!(formula_weight("a.bn.weight", &[3]), [1.0; 3]);
        let all = |name: &str, shape: &[usize], range: std::ops::Range<f32>| {
            let values = formula_weight(name, shape);
            let (least, most) = values.iter().fold((f32::MAX, f32::MIN), |(a, b), &v| (a.min(v), b.max(v)));
            let width = range.end - range.start;
            assert!(least >= range.start && most < range.end && most - least > 0.9 * width, "{name}: {least} to {most}");
        };
        all("a.bn.running_var", &[500], 0.5..1.5);
        all("a.bn.running_mean", &[500], -0.2..0.2);
        all("a.conv.weight", &[50, 3, 2], -1.0..1.0);
        all("fc.bias", &[500], -0.2..0.2);
    }
}
