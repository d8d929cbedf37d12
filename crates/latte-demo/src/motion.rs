//! Measures from pixels which thing moves in a clip, and in which direction, without knowing the class that was requested.
//!
//! The rule, in full:
//!
//! 1. The background is the median colour of the border pixels of all frames.
//! 2. A pixel is foreground if one of its channels differs from the background by more than [`FOREGROUND_LEVELS`].
//!    A frame in which less than [`MIN_AREA`] or more than [`MAX_AREA`] of the pixels are foreground shows no thing.
//! 3. A clip in which less than [`MIN_FRAMES`] of the frames show a thing has no motion.
//! 4. The displacement is the slope of the straight line fitted to the centroids, times the length of the clip.
//! 5. It has a direction if its longer component is at least [`MIN_TRAVEL`] of the frame's side and at least
//!    [`MIN_RATIO`] times the other.
//! 6. The thing is named by the colour channel in which the foreground exceeds the background most.
//!
//! A clip that always moves, in a direction chosen without regard to its class, is right in one of four cases: at most 25 %.

use crate::scene::{Class, Direction, Thing};

/// Minimum difference to the background in one channel of a foreground pixel, in levels of 255.
const FOREGROUND_LEVELS: u8 = 50;
/// Minimum area of a thing, as a fraction of the frame.
const MIN_AREA: f64 = 0.01;
/// Maximum area of a thing, as a fraction of the frame.
const MAX_AREA: f64 = 0.40;
/// Minimum fraction of the frames that must show a thing.
const MIN_FRAMES: f64 = 0.75;
/// Minimum displacement that counts as motion, as a fraction of the frame's side.
pub const MIN_TRAVEL: f64 = 0.15;
/// Minimum ratio of the displacement's components for it to have a direction.
const MIN_RATIO: f64 = 2.0;

/// The highest expected fraction of right directions for clips that ignore their class.
pub const CHANCE: f64 = 0.25;

/// The measured content of a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Motion {
    /// Displacement of the centroid from the first frame to the last, `(right, down)`, as fractions of the frame's width and
    /// height. `None` if too few frames show a thing.
    pub displacement: Option<(f64, f64)>,
    /// The direction of the displacement; `None` if it has no clear one.
    pub direction: Option<Direction>,
    /// The moving thing, identified by its colour.
    pub thing: Option<Thing>,
}

impl Motion {
    /// Whether the clip moves in the direction of `class`.
    pub fn direction_matches(&self, class: Class) -> bool {
        self.direction == Some(class.direction)
    }

    /// Whether the clip shows the thing of `class`.
    pub fn thing_matches(&self, class: Class) -> bool {
        self.thing == Some(class.thing)
    }
}

/// Measures a clip: u8 RGB, `shape` = `[f, h, w, 3]`.
pub fn measure(pixels: &[u8], shape: [usize; 4]) -> Motion {
    let [num_frames, height, width, _] = shape;
    let background = border_median(pixels, shape);
    let frames: Vec<Foreground> =
        pixels.chunks(height * width * 3).map(|frame| Foreground::of(frame, width, height, background)).collect();
    let seen: Vec<(f64, &Foreground)> =
        frames.iter().enumerate().filter(|(_, f)| f.is_a_thing()).map(|(index, f)| (index as f64, f)).collect();
    if seen.len() < 2 || (seen.len() as f64) < MIN_FRAMES * num_frames as f64 {
        return Motion { displacement: None, direction: None, thing: None };
    }
    let last = num_frames as f64 - 1.0;
    let right = slope(seen.iter().map(|(time, f)| (*time, f.centroid.0))) * last;
    let down = slope(seen.iter().map(|(time, f)| (*time, f.centroid.1))) * last;
    Motion { displacement: Some((right, down)), direction: direction(right, down), thing: thing(&seen) }
}

fn direction(right: f64, down: f64) -> Option<Direction> {
    let (long, short) = (right.abs().max(down.abs()), right.abs().min(down.abs()));
    if long < MIN_TRAVEL || long < MIN_RATIO * short {
        return None;
    }
    Some(match (right.abs() > down.abs(), right > 0.0, down > 0.0) {
        (true, true, _) => Direction::Right,
        (true, false, _) => Direction::Left,
        (false, _, true) => Direction::Down,
        (false, _, false) => Direction::Up,
    })
}

fn thing(seen: &[(f64, &Foreground)]) -> Option<Thing> {
    let mut excess = [0.0; 3];
    for (_, foreground) in seen {
        for (sum, value) in excess.iter_mut().zip(foreground.excess) {
            *sum += value;
        }
    }
    let [red, green, blue] = excess;
    if red > green && red > blue {
        Some(Thing::RedSquare)
    } else if blue > green && blue > red {
        Some(Thing::BlueDisc)
    } else {
        None
    }
}

/// The foreground of one frame.
#[derive(Debug)]
struct Foreground {
    /// Its area as a fraction of the frame.
    area: f64,
    /// `(right, down)`, as fractions of the frame's width and height; zero without foreground.
    centroid: (f64, f64),
    /// Difference of each channel to the background, summed over the foreground pixels.
    excess: [f64; 3],
}

impl Foreground {
    fn of(frame: &[u8], width: usize, height: usize, background: [u8; 3]) -> Self {
        let (mut count, mut sum_x, mut sum_y, mut excess) = (0.0, 0.0, 0.0, [0.0; 3]);
        for (index, pixel) in frame.chunks(3).enumerate() {
            if pixel.iter().zip(background).all(|(&p, b)| p.abs_diff(b) <= FOREGROUND_LEVELS) {
                continue;
            }
            count += 1.0;
            sum_x += (index % width) as f64 + 0.5;
            sum_y += (index / width) as f64 + 0.5;
            for ((sum, &p), b) in excess.iter_mut().zip(pixel).zip(background) {
                *sum += p as f64 - b as f64;
            }
        }
        let centroid = if count > 0.0 { (sum_x / count / width as f64, sum_y / count / height as f64) } else { (0.0, 0.0) };
        Self { area: count / (width * height) as f64, centroid, excess }
    }

    fn is_a_thing(&self) -> bool {
        (MIN_AREA..=MAX_AREA).contains(&self.area)
    }
}

/// The median of each channel over the outermost pixels of all frames.
fn border_median(pixels: &[u8], [_, height, width, _]: [usize; 4]) -> [u8; 3] {
    let mut counts = [[0_usize; 256]; 3];
    let mut total = 0;
    for (index, pixel) in pixels.chunks(3).enumerate() {
        let (x, y) = (index % width, index / width % height);
        if x == 0 || y == 0 || x == width - 1 || y == height - 1 {
            total += 1;
            for (count, &value) in counts.iter_mut().zip(pixel) {
                count[value as usize] += 1;
            }
        }
    }
    counts.map(|count| {
        let mut below = 0;
        let median = count.iter().position(|&n| {
            below += n;
            2 * below >= total
        });
        median.unwrap_or(0) as u8
    })
}

/// The slope of the least-squares line through `(time, value)` points.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let n = points.clone().count() as f64;
    let (time, value) = points.clone().fold((0.0, 0.0), |(t, v), point| (t + point.0 / n, v + point.1 / n));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for point in points {
        covariance += (point.0 - time) * (point.1 - value);
        variance += (point.0 - time).powi(2);
    }
    covariance / variance
}

#[cfg(test)]
mod tests {
    use super::super::scene::{DIRECTIONS, Scene};
    use super::*;

    /// A simple pseudorandom generator of numbers from 0 to 1 for synthetic clips.
    fn generator(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1_u64 << 31) as f64
        }
    }

    const SHAPE: [usize; 4] = [8, 32, 32, 3];

    fn reversed(pixels: &[u8], shape: [usize; 4]) -> Vec<u8> {
        let frames: Vec<&[u8]> = pixels.chunks(shape[1] * shape[2] * 3).collect();
        frames.into_iter().rev().flatten().copied().collect()
    }

    fn opposite(direction: Direction) -> Direction {
        match direction {
            Direction::Right => Direction::Left,
            Direction::Left => Direction::Right,
            Direction::Up => Direction::Down,
            Direction::Down => Direction::Up,
        }
    }

    #[test]
    fn every_class_is_recognised_and_reversed_clips_have_the_opposite_direction() {
        let mut uniform = generator(1);
        for class in Class::all() {
            for _ in 0..20 {
                let pixels = Scene::random(class, &mut uniform).draw(SHAPE[0], SHAPE[1]);
                let motion = measure(&pixels, SHAPE);
                assert!(motion.direction_matches(class) && motion.thing_matches(class), "{class}: {motion:?}");
                let motion = measure(&reversed(&pixels, SHAPE), SHAPE);
                assert_eq!(motion.direction, Some(opposite(class.direction)), "{class} backwards");
                assert!(!motion.direction_matches(class));
            }
        }
    }

    #[test]
    fn the_measured_displacement_is_the_drawn_one() {
        let class = Class { direction: Direction::Left, thing: Thing::BlueDisc };
        let scene = Scene { class, start: (0.8, 0.4), travel: 0.5, radius: 0.13 };
        let (right, down) = measure(&scene.draw(16, 64), [16, 64, 64, 3]).displacement.unwrap_or_default();
        assert!((right + 0.5).abs() < 0.01 && down.abs() < 0.01, "{right} {down}");
    }

    #[test]
    fn a_noisy_clip_is_still_measured() {
        let mut uniform = generator(2);
        for class in Class::all() {
            let mut pixels = Scene::random(class, &mut uniform).draw(SHAPE[0], SHAPE[1]);
            for value in &mut pixels {
                *value = (*value as f64 + 40.0 * (uniform() - 0.5)).clamp(0.0, 255.0) as u8;
            }
            let motion = measure(&pixels, SHAPE);
            assert!(motion.direction_matches(class) && motion.thing_matches(class), "{class}: {motion:?}");
        }
    }

    #[test]
    fn a_still_clip_has_a_thing_but_no_direction() {
        for class in Class::all() {
            let one = Scene::random(class, &mut || 0.5).draw(1, SHAPE[1]);
            let motion = measure(&one.repeat(SHAPE[0]), SHAPE);
            assert_eq!(motion.direction, None, "{class}");
            assert!(motion.thing_matches(class));
        }
    }

    #[test]
    fn slow_and_slanted_motion_has_no_direction() {
        let class = Class { direction: Direction::Right, thing: Thing::RedSquare };
        let slow = Scene { class, start: (0.4, 0.5), travel: MIN_TRAVEL * 0.8, radius: 0.13 };
        assert_eq!(measure(&slow.draw(8, 64), [8, 64, 64, 3]).direction, None);
        assert_eq!(direction(0.3, 0.2), None);
        assert_eq!(direction(0.3, -0.1), Some(Direction::Right));
        assert_eq!(direction(-0.1, -0.3), Some(Direction::Up));
    }

    #[test]
    fn noise_and_jumping_patches_are_right_less_often_than_chance() {
        let mut uniform = generator(3);
        let len: usize = SHAPE.iter().product();
        let clips = 400;
        let mut found = [0; 4];
        for round in 0..clips {
            // From a few bright pixels to full noise, and patches that jump about.
            let density = [0.02, 0.05, 0.2, 1.0][round / 2 % 4];
            let mut pixels = vec![20_u8; len];
            if round % 2 == 0 {
                for pixel in pixels.chunks_mut(3) {
                    if uniform() < density {
                        pixel.fill_with(|| (uniform() * 255.0) as u8);
                    }
                }
            } else {
                for frame in pixels.chunks_mut(SHAPE[1] * SHAPE[2] * 3) {
                    let (left, top) = ((uniform() * 24.0) as usize, (uniform() * 24.0) as usize);
                    for y in top..top + 8 {
                        frame[(y * SHAPE[2] + left) * 3..][..24].fill(230);
                    }
                }
            }
            let motion = measure(&pixels, SHAPE);
            for (count, direction) in found.iter_mut().zip(DIRECTIONS) {
                *count += usize::from(motion.direction == Some(direction));
            }
        }
        for (count, direction) in found.into_iter().zip(DIRECTIONS) {
            assert!((count as f64) < CHANCE / 2.0 * clips as f64, "{count} of {clips} clips of noise move {direction}");
        }
    }

    #[test]
    fn an_empty_scene_shows_nothing() {
        let motion = measure(&vec![20; SHAPE.iter().product()], SHAPE);
        assert_eq!(motion, Motion { displacement: None, direction: None, thing: None });
    }
}
