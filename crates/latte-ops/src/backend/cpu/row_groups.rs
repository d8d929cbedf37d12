//! Rows in groups that share one vector, spread over all threads.

use rayon::prelude::*;

use crate::backend::cpu::slices::CHUNK;

/// A tensor `[…, d]` whose rows form `groups` equal groups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowGroups {
    pub(crate) groups: usize,
    /// Rows per group.
    pub(crate) rows: usize,
    pub(crate) d: usize,
}

/// One piece of parallel work: rows of one group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) group: usize,
    /// The first row, counted over all groups.
    pub(crate) first_row: usize,
}

impl RowGroups {
    /// The groups of a tensor of `elements` values, for vectors `[groups, d]`.
    pub(crate) fn of(elements: usize, groups: usize, d: usize) -> Self {
        Self { groups, rows: elements / groups.max(1) / d.max(1), d }
    }

    fn rows_per_piece(&self) -> usize {
        (CHUNK / self.d.max(1)).clamp(1, self.rows.max(1))
    }

    /// Calls `work` in parallel with each piece and its rows in `a`; returns the results in order.
    pub(crate) fn each_mut<T: Send, R: Send>(&self, a: &mut [T], work: impl Fn(Piece, &mut [T]) -> R + Sync) -> Vec<R> {
        let per_piece = self.rows_per_piece();
        a.par_chunks_mut((self.rows * self.d).max(1))
            .enumerate()
            .flat_map(|(group, rows)| {
                rows.par_chunks_mut(per_piece * self.d)
                    .enumerate()
                    .map(move |(i, rows)| (Piece { group, first_row: group * self.rows + i * per_piece }, rows))
            })
            .map(|(piece, rows)| work(piece, rows))
            .collect()
    }

    /// The group of each result of [`RowGroups::each_mut`].
    fn group_of(&self, index: usize) -> usize {
        index / self.rows.div_ceil(self.rows_per_piece()).max(1)
    }

    /// Adds up per-piece sums `[d]` into `[groups, d]`, in a fixed order.
    pub(crate) fn sums<'p>(&self, pieces: impl Iterator<Item = &'p [f32]>) -> Vec<f32> {
        let mut total = vec![0.0; self.groups * self.d];
        for (index, piece) in pieces.enumerate() {
            let group = self.group_of(index);
            for (t, v) in total[group * self.d..][..self.d].iter_mut().zip(piece) {
                *t += v;
            }
        }
        total
    }
}
