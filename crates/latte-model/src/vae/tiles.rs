//! Applies layers to tiles of a frame, with the result of the whole frame.
//!
//! A convolution reads a few positions around each tile, so tiles overlap by the reach of the layers and need no blending. In other
//! programs tiles differ from the whole frame, with visible seams, because of the group norms: their statistics are those of all
//! positions. Here the layers run over all tiles once per norm, each time up to the first norm whose statistics are not known, to
//! sum them; the last run computes the result. Between levels, tensors of the whole frame are in memory; within a level, only those
//! of one tile.

use latte_ops::{Canvas, GroupSums, Tape, Var, concat, narrow};

use super::convolution::Pass;
use super::layers::{Layer, OfTile, whole};
use crate::{Error, Result};

/// The size of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    tile: usize,
}

impl Tiling {
    /// Tiles of `tile` × `tile` positions (of each level; pixels at the highest), an even number of at least 16.
    ///
    /// The result is that of the whole frame up to rounding. The memory is that of the whole frame at half its height and width,
    /// and of a few tiles; the time is several times as long (a level of a decoder has six or seven norms).
    ///
    /// # Errors
    ///
    /// If `tile` is odd or less than 16.
    pub fn new(tile: usize) -> Result<Self> {
        if tile < 16 || !tile.is_multiple_of(2) {
            return Err(Error::config("tile", format!("expected an even number of at least 16, got {tile}")));
        }
        Ok(Self { tile })
    }

    /// Applies all layers, in tiles if the frame is larger than one tile.
    pub(super) fn run<'w>(self, tape: &Tape<'w>, layers: &'w [Layer], mut x: Var) -> Result<Var> {
        for level in levels(layers) {
            let [h, w] = Level::of(level, &x)?.size;
            let everywhere = level.iter().any(|layer| layer.reach().is_none());
            x = if everywhere || h.max(w) <= self.tile {
                whole(tape, Pass::PREPARED, level, x)?
            } else {
                self.level(tape, level, &x)?
            };
        }
        Ok(x)
    }

    fn level<'w>(self, tape: &Tape<'w>, layers: &'w [Layer], x: &Var) -> Result<Var> {
        let level = Level::of(layers, x)?;
        let mut known = Vec::new();
        loop {
            let mut sums = Vec::new();
            let mut result: Option<Canvas> = None;
            for top in (0..level.size[0]).step_by(self.tile) {
                let mut row = Vec::new();
                for left in (0..level.size[1]).step_by(self.tile) {
                    match level.tile(tape, x, [top, left], self.tile, &known)? {
                        Tile::Done(tile) => row.push(tile),
                        Tile::Sums(found) => sums.push(found),
                    }
                }
                if row.is_empty() {
                    continue;
                }
                let row = concat(tape, &row.iter().collect::<Vec<_>>(), 2)?;
                let &[_, height, width, c] = row.dims() else { return Err(Error::config("tile", "a row that is no frame")) };
                let mut canvas = match result.take() {
                    Some(canvas) => canvas,
                    // All rows have the width, dtype and device of the first one.
                    None => Canvas::new(&[1, level.out_rows(), width, c], &row)?,
                };
                canvas.put(&row, 1, (top / level.shrinks).min(level.out_rows() - height))?;
                result = Some(canvas);
            }
            match result {
                Some(result) if sums.is_empty() => return Ok(result.finish(tape)),
                _ => known.push(GroupSums::merge(&sums)?),
            }
        }
    }
}

/// Splits the layers into levels: from an upsampling on, or up to a downsampling.
fn levels(layers: &[Layer]) -> Vec<&[Layer]> {
    let (mut levels, mut start) = (Vec::new(), 0);
    for (index, layer) in layers.iter().enumerate() {
        let end = match layer {
            Layer::Up(_) => index,
            Layer::Down(_) => index + 1,
            _ => continue,
        };
        levels.push(&layers[start..end]);
        start = end;
    }
    levels.push(&layers[start..]);
    levels.retain(|level| !level.is_empty());
    levels
}

/// The arguments that all tiles of a level share.
struct Level<'l> {
    layers: &'l [Layer],
    /// Height and width after the upsampling, and before the downsampling.
    size: [usize; 2],
    /// The factor from the input's size to `size`.
    grows: usize,
    /// The factor from the output's size to `size`.
    shrinks: usize,
    /// The reach of its layers around a tile, an even number.
    halo: usize,
}

enum Tile {
    Done(Var),
    Sums(GroupSums),
}

impl<'l> Level<'l> {
    fn of(layers: &'l [Layer], x: &Var) -> Result<Self> {
        let &[_, h, w, _] = x.dims() else { return Err(Error::config("tile", format!("expected a frame, got {:?}", x.dims()))) };
        let grows = if matches!(layers.first(), Some(Layer::Up(_))) { 2 } else { 1 };
        let shrinks = if matches!(layers.last(), Some(Layer::Down(_))) { 2 } else { 1 };
        let halo = layers.iter().filter_map(Layer::reach).sum::<usize>().next_multiple_of(2);
        Ok(Self { layers, size: [h * grows, w * grows], grows, shrinks, halo })
    }

    fn out_rows(&self) -> usize {
        self.size[0] / self.shrinks
    }

    /// The output of the tile that begins at `first`.
    fn tile(&self, tape: &Tape<'l>, x: &Var, first: [usize; 2], tile: usize, known: &[GroupSums]) -> Result<Tile> {
        let (mut core, mut x) = ([[0; 2]; 2], x.clone());
        for axis in 0..2 {
            let end = (first[axis] + tile).min(self.size[axis]);
            // Both ends are even, so that upsampled and downsampled positions stay together.
            let from = first[axis].saturating_sub(self.halo);
            let to = (end + self.halo).min(self.size[axis]);
            core[axis] = [first[axis] - from, end - first[axis]];
            x = narrow(tape, &x, axis + 1, from / self.grows, (to - from) / self.grows)?;
        }
        let mut statistics = OfTile { known, next: 0, core, found: None };
        for layer in self.layers {
            match (layer.forward(tape, Pass::PREPARED, x, &mut statistics)?, statistics.found.take()) {
                (Some(y), _) => x = y,
                (None, Some(sums)) => return Ok(Tile::Sums(sums)),
                (None, None) => return Err(Error::config("tile", "a layer ended without statistics")),
            }
        }
        for (axis, [from, len]) in core.into_iter().enumerate() {
            x = narrow(tape, &x, axis + 1, from / self.shrinks, len / self.shrinks)?;
        }
        Ok(Tile::Done(x))
    }
}
