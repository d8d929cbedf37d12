//! Contact sheets: frames of many clips in one image.

use std::path::Path;

use super::font::{CELL_HEIGHT, CELL_WIDTH, glyph};
use super::write_png;
use crate::{Clip, Error, Result};

const BACKGROUND: [u8; 3] = [24, 24, 28];
const TEXT: [u8; 3] = [225, 225, 225];
/// Pixels between frames and around the sheet.
const GAP: usize = 2;

/// An image: u8 RGB, row-major `[h, w, 3]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `height · width · 3` values.
    pub pixels: Vec<u8>,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

impl Image {
    /// Writes the image as a png.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_png(&self, path: impl AsRef<Path>) -> Result<()> {
        write_png(path, &self.pixels, self.width, self.height)
    }

    fn put(&mut self, x: usize, y: usize, colour: [u8; 3]) {
        let at = (y * self.width + x) * 3;
        self.pixels[at..at + 3].copy_from_slice(&colour);
    }
}

/// One row of a contact sheet.
#[derive(Debug, Clone, Copy)]
pub struct SheetRow<'a> {
    /// Text above the frames, cut at the width of the sheet; may be empty. A sheet without any label has no space for labels.
    pub label: &'a str,
    /// The clip whose frames are drawn.
    pub clip: &'a Clip,
}

/// Draws a grid: each row has a label and up to `columns` frames of its clip, evenly spaced from the first to the last, from left
/// to right. Frames are enlarged by integer factors to `min_frame_width` pixels or a little more. Clips of different sizes are
/// drawn in cells of the largest size.
///
/// # Errors
///
/// If there is no row, `columns` is zero, or the image would have more than 2^28 pixels.
pub fn contact_sheet(rows: &[SheetRow<'_>], columns: usize, min_frame_width: usize) -> Result<Image> {
    let columns = columns.min(rows.iter().map(|r| r.clip.num_frames()).max().unwrap_or(0));
    if columns == 0 {
        return Err(Error::Shape("a contact sheet needs at least one row and one column".into()));
    }
    let side = |of: fn(&Clip) -> usize| rows.iter().map(|r| of(r.clip)).max().unwrap_or(1);
    let (width, height) = (side(Clip::width), side(Clip::height));
    let zoom = min_frame_width.div_ceil(width).max(1);
    let text_zoom = if width * zoom * columns > 700 { 2 } else { 1 };
    let label_height = if rows.iter().all(|r| r.label.is_empty()) { 0 } else { CELL_HEIGHT * text_zoom };
    let row_height = height * zoom + GAP + label_height;
    let sheet_width = columns * (width * zoom + GAP) + GAP;
    let sheet_height = rows.len() * row_height + GAP;
    if sheet_width.checked_mul(sheet_height).is_none_or(|n| n > 1 << 28) {
        return Err(Error::Shape(format!("a contact sheet of {sheet_width} × {sheet_height} pixels is too large")));
    }
    let mut image = Image { pixels: BACKGROUND.repeat(sheet_width * sheet_height), width: sheet_width, height: sheet_height };
    for (index, row) in rows.iter().enumerate() {
        let top = GAP + index * row_height;
        draw_text(&mut image, row.label, GAP, top, text_zoom);
        for (column, frame) in spread(row.clip.num_frames(), columns).into_iter().enumerate() {
            let left = GAP + column * (width * zoom + GAP);
            draw_frame(&mut image, row.clip, frame, left, top + label_height, zoom);
        }
    }
    Ok(image)
}

/// Indices of up to `columns` of `frames` frames, including the first and the last.
fn spread(frames: usize, columns: usize) -> Vec<usize> {
    if frames <= columns || columns == 1 {
        return (0..frames.min(columns)).collect();
    }
    (0..columns).map(|c| (c * (frames - 1) + (columns - 1) / 2) / (columns - 1)).collect()
}

fn draw_frame(image: &mut Image, clip: &Clip, frame: usize, left: usize, top: usize, zoom: usize) {
    let pixels = clip.frame(frame);
    for y in 0..clip.height() * zoom {
        for x in 0..clip.width() * zoom {
            let at = (y / zoom * clip.width() + x / zoom) * 3;
            image.put(left + x, top + y, [pixels[at], pixels[at + 1], pixels[at + 2]]);
        }
    }
}

fn draw_text(image: &mut Image, text: &str, left: usize, top: usize, zoom: usize) {
    for (index, character) in text.chars().enumerate() {
        let x0 = left + index * CELL_WIDTH * zoom;
        if x0 + CELL_WIDTH * zoom > image.width {
            break;
        }
        for (row, bits) in glyph(character).into_iter().enumerate() {
            for column in (0..5).filter(|c| bits >> (4 - c) & 1 == 1) {
                for (dy, dx) in (0..zoom).flat_map(|dy| (0..zoom).map(move |dx| (dy, dx))) {
                    image.put(x0 + column * zoom + dx, top + row * zoom + dy, TEXT);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_lie_where_they_should() {
        let frames: Vec<u8> = [10_u8, 20, 30, 40, 50].iter().flat_map(|&v| [v; 4 * 3 * 3]).collect();
        let clip = Clip::new(frames, [5, 3, 4, 3], 8.0).unwrap();
        let sheet = contact_sheet(&[SheetRow { label: "", clip: &clip }, SheetRow { label: "", clip: &clip }], 3, 8).unwrap();
        // Three columns of 4 · 2 pixels, two rows of 3 · 2, gaps of 2.
        assert_eq!([sheet.width, sheet.height], [3 * 10 + 2, 2 * 8 + 2]);
        let at = |x: usize, y: usize| sheet.pixels[(y * sheet.width + x) * 3];
        assert_eq!([at(2, 2), at(12, 2), at(22, 2)], [10, 30, 50]);
        assert_eq!([at(9, 7), at(10, 7), at(29, 17 - 2)], [10, BACKGROUND[0], 50]);
        assert_eq!(at(12, 10), 30);
    }

    #[test]
    fn label_is_drawn_and_cut() {
        let clip = Clip::new(vec![0; 16 * 16 * 3], [1, 16, 16, 3], 8.0).unwrap();
        let sheet = contact_sheet(&[SheetRow { label: "a very long label: ü", clip: &clip }], 4, 1).unwrap();
        assert_eq!([sheet.width, sheet.height], [20, 16 + 4 + CELL_HEIGHT]);
        assert!(sheet.pixels.chunks(3).any(|p| p == TEXT));
        assert!(contact_sheet(&[], 4, 1).is_err());
    }
}
