//! The scenes of the demo's clips: one thing that moves in one direction across a plain dark background.

use std::f64::consts::PI;
use std::fmt;

/// The colour of the background.
pub const BACKGROUND: [u8; 3] = [18, 20, 28];

/// The direction of motion on the screen: `Down` is towards the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Towards the last column.
    Right,
    /// Towards the first column.
    Left,
    /// Towards the first row.
    Up,
    /// Towards the last row.
    Down,
}

/// A moving thing. Things differ in colour and in shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A red square.
    RedSquare,
    /// A blue disc.
    BlueDisc,
}

/// All directions.
pub const DIRECTIONS: [Direction; 4] = [Direction::Right, Direction::Left, Direction::Up, Direction::Down];

/// All things.
pub const THINGS: [Thing; 2] = [Thing::RedSquare, Thing::BlueDisc];

/// A class of the demo's data set: a direction and a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The direction of motion.
    pub direction: Direction,
    /// The moving thing.
    pub thing: Thing,
}

impl Class {
    /// Every class, in the order of the names (as a data folder sorts its sub-folders).
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = DIRECTIONS.iter().flat_map(|&direction| THINGS.map(|thing| Self { direction, thing })).collect();
        all.sort_by_key(ToString::to_string);
        all
    }

    /// The class called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|class| class.to_string() == name)
    }
}

impl Direction {
    /// The unit step `(right, down)`.
    pub fn step(self) -> (f64, f64) {
        match self {
            Self::Right => (1.0, 0.0),
            Self::Left => (-1.0, 0.0),
            Self::Up => (0.0, -1.0),
            Self::Down => (0.0, 1.0),
        }
    }
}

impl Thing {
    /// Its colour.
    pub fn colour(self) -> [u8; 3] {
        match self {
            Self::RedSquare => [235, 70, 50],
            Self::BlueDisc => [60, 130, 250],
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.direction, self.thing)
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Right => "right",
            Self::Left => "left",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RedSquare => "red_square",
            Self::BlueDisc => "blue_disc",
        })
    }
}

/// The parameters of a clip: class, start position, speed and size. Lengths are fractions of the frame's side.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    /// The class of the clip.
    pub class: Class,
    /// Centre in the first frame, `(right, down)`.
    pub start: (f64, f64),
    /// Distance of the centre from the first frame to the last.
    pub travel: f64,
    /// Radius of the disc; the square has the same area.
    pub radius: f64,
}

impl Scene {
    /// A scene with random start, speed and size: the thing crosses most of the frame near its middle and stays inside it. So the
    /// class roughly determines the position of the thing at any time, which a small model learns in minutes.
    pub fn random(class: Class, uniform: &mut dyn FnMut() -> f64) -> Self {
        let mut between = |low: f64, high: f64| low + (high - low) * uniform();
        let radius = between(0.15, 0.18);
        let travel = between(0.48, 0.58);
        let margin = radius + 0.02;
        // The whole path must fit into the frame in the direction of motion.
        let along = between(margin, 1.0 - margin - travel);
        let across = between(0.42, 0.58);
        let start = match class.direction {
            Direction::Right => (along, across),
            Direction::Left => (1.0 - along, across),
            Direction::Down => (across, along),
            Direction::Up => (across, 1.0 - along),
        };
        Self { class, start, travel, radius }
    }

    /// Draws the clip: u8 RGB, `[num_frames, side, side, 3]`.
    pub fn draw(&self, num_frames: usize, side: usize) -> Vec<u8> {
        let mut pixels = Vec::with_capacity(num_frames * side * side * 3);
        let (step_x, step_y) = self.class.direction.step();
        let scale = side as f64;
        for frame in 0..num_frames {
            let moved = self.travel * frame as f64 / (num_frames.max(2) - 1) as f64;
            let centre = ((self.start.0 + step_x * moved) * scale, (self.start.1 + step_y * moved) * scale);
            for y in 0..side {
                for x in 0..side {
                    let offset = (x as f64 + 0.5 - centre.0, y as f64 + 0.5 - centre.1);
                    let covered = self.coverage(offset, scale);
                    for (back, front) in BACKGROUND.into_iter().zip(self.class.thing.colour()) {
                        pixels.push((back as f64 + (front as f64 - back as f64) * covered).round() as u8);
                    }
                }
            }
        }
        pixels
    }

    /// The fraction of a pixel that is covered, 0 to 1; `offset` goes from the centre of the thing to that of the pixel. Smooth
    /// edges make motion by fractions of a pixel visible.
    fn coverage(&self, offset: (f64, f64), scale: f64) -> f64 {
        let radius = self.radius * scale;
        let inside = |distance: f64, radius: f64| (radius - distance + 0.5).clamp(0.0, 1.0);
        match self.class.thing {
            // A square and a disc of the same area.
            Thing::RedSquare => {
                let half = radius * PI.sqrt() / 2.0;
                inside(offset.0.abs(), half) * inside(offset.1.abs(), half)
            }
            Thing::BlueDisc => inside(offset.0.hypot(offset.1), radius),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_classes_in_the_order_of_their_folders() {
        let names: Vec<String> = Class::all().iter().map(ToString::to_string).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(names, sorted);
        assert_eq!(names.len(), 8);
        for name in &names {
            assert_eq!(Class::from_name(name).map(|c| c.to_string()).as_ref(), Some(name));
        }
        assert_eq!(Class::from_name("right"), None);
    }

    #[test]
    fn a_thing_never_touches_the_border() {
        for extreme in [0.0, 0.5, 1.0] {
            for class in Class::all() {
                let pixels = Scene::random(class, &mut || extreme).draw(24, 64);
                assert_eq!(pixels.len(), 24 * 64 * 64 * 3);
                for (index, pixel) in pixels.chunks(3).enumerate() {
                    let (x, y) = (index % 64, index / 64 % 64);
                    if x == 0 || y == 0 || x == 63 || y == 63 {
                        assert_eq!(pixel, BACKGROUND, "{class} {extreme}: at {x} {y}");
                    }
                }
            }
        }
    }
}
