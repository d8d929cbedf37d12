//! Rotation and mirroring of stored frames for display.

/// One of the eight orientations of a frame: where a stored column and a stored row go.
///
/// A pixel stored at (x, y) is shown at (a·x + c·y, b·x + d·y), shifted so that the frame begins at (0, 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orientation {
    a: i8,
    b: i8,
    c: i8,
    d: i8,
}

impl Default for Orientation {
    fn default() -> Self {
        Self { a: 1, b: 0, c: 0, d: 1 }
    }
}

impl Orientation {
    /// From the left upper part `[a, b, c, d]` of an mp4 display matrix (ISO/IEC 14496-12, 6.2.2). Scale is ignored.
    /// `None` if it differs from every multiple of a quarter turn by more than a degree.
    pub(crate) fn from_matrix(matrix: [i32; 4]) -> Option<Self> {
        // A rotation by one degree moves a pixel by 1/57 of its distance.
        let least = matrix.iter().map(|v| v.unsigned_abs() / 57).max().unwrap_or(0);
        let [a, b, c, d] = matrix.map(|v| if v.unsigned_abs() <= least { 0 } else { v.signum() as i8 });
        match (a, b, c, d) {
            (0, 0, 0, 0) => Some(Self::default()),
            (_, 0, 0, _) if a != 0 && d != 0 => Some(Self { a, b, c, d }),
            (0, _, _, 0) if b != 0 && c != 0 => Some(Self { a, b, c, d }),
            _ => None,
        }
    }

    /// The message that no decoder supports a rotation by `degrees` clockwise.
    pub(crate) fn refusal(degrees: f64) -> String {
        let degrees = degrees.rem_euclid(360.0).round() % 360.0;
        format!(
            "it is to be turned by {degrees}° for display, and only quarter turns are made here: write it anew, upright, with a video \
             editor"
        )
    }

    pub(crate) fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// Clockwise rotation in degrees, without mirroring.
    pub(crate) fn rotation(self) -> u32 {
        match (self.a, self.b) {
            (0, 1) => 90,
            (-1, _) if self.d == -1 => 180,
            (0, _) => 270,
            _ => 0,
        }
    }

    /// The displayed size `[width, height]` for the stored size.
    pub(crate) fn size(self, [width, height]: [usize; 2]) -> [usize; 2] {
        if self.a == 0 { [height, width] } else { [width, height] }
    }

    /// Writes the RGB pixels `[h, w, 3]` as displayed. `size` is the stored `[width, height]`.
    pub(crate) fn apply(self, stored: &[u8], size: [usize; 2], out: &mut [u8]) {
        let [width, height] = size;
        let [out_width, _] = self.size(size);
        let place = |forward: i8, i: usize, len: usize| if forward > 0 { i } else { len - 1 - i };
        for y in 0..height {
            for x in 0..width {
                let (to_x, to_y) = if self.a == 0 {
                    (place(self.c, y, height), place(self.b, x, width))
                } else {
                    (place(self.a, x, width), place(self.d, y, height))
                };
                let from = (y * width + x) * 3;
                let to = (to_y * out_width + to_x) * 3;
                out[to..to + 3].copy_from_slice(&stored[from..from + 3]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Orientation;

    fn turned(matrix: [i32; 4]) -> (u32, Vec<u8>) {
        // 1 2 3
        // 4 5 6
        let stored: Vec<u8> = [1, 2, 3, 4, 5, 6].into_iter().flat_map(|v| [v; 3]).collect();
        let orientation = Orientation::from_matrix(matrix).unwrap();
        let mut out = vec![0; 18];
        orientation.apply(&stored, [3, 2], &mut out);
        (orientation.rotation(), out.iter().step_by(3).copied().collect())
    }

    #[test]
    fn quarter_turns() {
        const ONE: i32 = 1 << 16;
        assert_eq!(turned([ONE, 0, 0, ONE]), (0, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(turned([0, ONE, -ONE, 0]), (90, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(turned([-ONE, 0, 0, -ONE]), (180, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(turned([0, -ONE, ONE, 0]), (270, vec![3, 6, 2, 5, 1, 4]));
        assert_eq!(turned([-ONE, 0, 0, ONE]), (0, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(turned([0, 0, 0, 0]).0, 0);
        assert_eq!(Orientation::from_matrix([ONE, ONE, -ONE, ONE]), None);
        // Up to a degree counts as rounding; two degrees are a rotation.
        assert_eq!(turned([ONE / 100, ONE, -ONE, 3]).0, 90);
        assert_eq!(turned([ONE, ONE / 60, -ONE / 60, ONE]), (0, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(Orientation::from_matrix([ONE, ONE / 28, -ONE / 28, ONE]), None);
        assert!(Orientation::refusal(-45.0).contains("by 315°") && Orientation::refusal(359.9).contains("by 0°"));
    }
}
