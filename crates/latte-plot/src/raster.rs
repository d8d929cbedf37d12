//! A page as pixels: lines with soft edges, and text that is lines.

use latte_video::encode::Image;

use super::scene::{Anchor, BACKGROUND, Mark, Scene};
use super::strokes::{text_lines, text_width};

/// The width of a text's strokes, as a part of its size.
const PEN: f64 = 0.095;
const BOLD_PEN: f64 = 0.14;

/// The page with `scale` × `scale` pixels for each of its own.
pub(crate) fn raster(scene: &Scene, scale: f64) -> Image {
    let (width, height) = ((scene.width * scale).ceil() as usize, (scene.height * scale).ceil() as usize);
    let mut canvas =
        Canvas { image: Image { pixels: BACKGROUND.repeat(width * height), width, height }, coverage: vec![0.0; width * height] };
    for mark in &scene.marks {
        match mark {
            Mark::Line { points, width, colour, opacity } => {
                let points: Vec<[f64; 2]> = points.iter().map(|[x, y]| [x * scale, y * scale]).collect();
                canvas.draw(&[points], width * scale, *colour, *opacity);
            }
            Mark::Text { at: [x, y], text, size, anchor, bold, colour } => {
                let before = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => 0.5,
                    Anchor::End => 1.0,
                };
                let size = size * scale;
                let start = [x * scale - before * text_width(text, size), y * scale];
                canvas.draw(&text_lines(text, start, size), size * if *bold { BOLD_PEN } else { PEN }, *colour, 1.0);
            }
        }
    }
    canvas.image
}

struct Canvas {
    image: Image,
    /// How much of each pixel the mark that is being drawn covers, 0 to 1.
    coverage: Vec<f32>,
}

impl Canvas {
    /// Draws lines as one mark: where they cross or overlap, they do not add up.
    fn draw(&mut self, lines: &[Vec<[f64; 2]>], width: f64, colour: [u8; 3], opacity: f64) {
        let mut touched = [usize::MAX, usize::MAX, 0, 0];
        for line in lines {
            match line.as_slice() {
                [] => {}
                [only] => self.cover(*only, *only, width, &mut touched),
                points => points.windows(2).for_each(|p| self.cover(p[0], p[1], width, &mut touched)),
            }
        }
        let [left, top, right, bottom] = touched;
        for y in top..bottom {
            for x in left..right {
                let at = y * self.image.width + x;
                let share = std::mem::take(&mut self.coverage[at]) * opacity as f32;
                for (channel, new) in self.image.pixels[at * 3..at * 3 + 3].iter_mut().zip(colour) {
                    let old = f32::from(*channel);
                    *channel = (old + share * (f32::from(new) - old)).round() as u8;
                }
            }
        }
    }

    /// Notes how much of each pixel lies within half of `width` of the way from `a` to `b`. `touched` grows to hold the pixels that
    /// it may have been: left, top, right, bottom.
    fn cover(&mut self, a: [f64; 2], b: [f64; 2], width: f64, touched: &mut [usize; 4]) {
        let reach = width / 2.0 + 0.5;
        let (columns, rows) = (self.image.width, self.image.height);
        let pixels = |low: f64, high: f64, most: usize| {
            let first = (low - reach).floor().clamp(0.0, most as f64) as usize;
            let behind = (high + reach).ceil().clamp(0.0, most as f64) as usize;
            first..behind
        };
        let xs = pixels(a[0].min(b[0]), a[0].max(b[0]), columns);
        let ys = pixels(a[1].min(b[1]), a[1].max(b[1]), rows);
        let along = [b[0] - a[0], b[1] - a[1]];
        let length_squared = along[0] * along[0] + along[1] * along[1];
        for y in ys.clone() {
            for x in xs.clone() {
                // The pixel's centre, seen from `a`.
                let from_a = [x as f64 + 0.5 - a[0], y as f64 + 0.5 - a[1]];
                let place = if length_squared > 0.0 {
                    ((from_a[0] * along[0] + from_a[1] * along[1]) / length_squared).clamp(0.0, 1.0)
                } else {
                    0.0
                };
                let distance = (from_a[0] - place * along[0]).hypot(from_a[1] - place * along[1]);
                let share = (reach - distance).clamp(0.0, width.min(1.0)) as f32;
                let covered = &mut self.coverage[y * columns + x];
                *covered = covered.max(share);
            }
        }
        if !xs.is_empty() && !ys.is_empty() {
            let [left, top, right, bottom] = *touched;
            *touched = [left.min(xs.start), top.min(ys.start), right.max(xs.end), bottom.max(ys.end)];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(marks: Vec<Mark>) -> Scene {
        Scene { width: 20.0, height: 10.0, marks }
    }

    fn line(points: Vec<[f64; 2]>, opacity: f64) -> Mark {
        Mark::Line { points, width: 2.0, colour: [0, 0, 0], opacity }
    }

    #[test]
    fn a_line_covers_what_it_should() {
        let image = raster(&page(vec![line(vec![[5.0, 5.0], [15.0, 5.0]], 1.0)]), 1.0);
        let at = |x: usize, y: usize| image.pixels[(y * image.width + x) * 3];
        assert_eq!([image.width, image.height], [20, 10]);
        // Two pixels wide around y = 5: rows 4 and 5.
        assert_eq!([at(10, 3), at(10, 4), at(10, 5), at(10, 6)], [255, 0, 0, 255]);
        assert_eq!([at(2, 4), at(17, 5)], [255, 255]);
        let twice = raster(&page(vec![line(vec![[5.0, 5.0], [15.0, 5.0]], 1.0)]), 2.0);
        assert_eq!([twice.width, twice.height], [40, 20]);
        assert_eq!([8, 11].map(|y| twice.pixels[(y * 40 + 20) * 3]), [0, 0]);
        assert_eq!([7, 12].map(|y| twice.pixels[(y * 40 + 20) * 3]), [255, 255]);
    }

    #[test]
    fn a_faint_line_is_no_darker_where_it_crosses_itself() {
        let there_and_back = vec![[2.0, 5.0], [18.0, 5.0], [2.0, 5.0], [10.0, 1.0]];
        let image = raster(&page(vec![line(there_and_back, 0.5)]), 1.0);
        assert_eq!(image.pixels.iter().min(), Some(&128));
    }

    #[test]
    fn nothing_is_drawn_beyond_the_page() {
        let far = line(vec![[-50.0, -50.0], [70.0, 70.0]], 1.0);
        let outside = line(vec![[-50.0, -50.0], [-40.0, -60.0]], 1.0);
        let image = raster(&page(vec![far, outside, line(vec![], 1.0), line(vec![[1.0, 1.0]], 1.0)]), 1.0);
        assert_eq!(image.pixels.len(), 20 * 10 * 3);
        assert_eq!(image.pixels[0], 0);
    }

    #[test]
    fn text_ends_where_it_is_anchored() {
        let mark = |anchor| Mark::Text { at: [10.0, 9.0], text: "H".into(), size: 10.0, anchor, bold: false, colour: [0, 0, 0] };
        let dark = |anchor| -> (usize, usize) {
            let image = raster(&page(vec![mark(anchor)]), 1.0);
            let columns: Vec<usize> = (0..20).filter(|x| (0..10).any(|y| image.pixels[(y * 20 + x) * 3] < 128)).collect();
            (columns[0], columns[columns.len() - 1])
        };
        let [start, middle, end] = [Anchor::Start, Anchor::Middle, Anchor::End].map(dark);
        assert!((9..=10).contains(&start.0) && (9..=10).contains(&end.1), "{start:?} {end:?}");
        assert!(middle.0 < 9 && middle.1 > 10, "{middle:?}");
    }
}
