//! Makes damaged files from sound ones.

mod boxes;
mod bytes;
mod sums;
mod text;

/// The structure of a file, which determines how damage gets past the first check.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// An unknown structure.
    Bytes,
    /// Words, numbers and lines.
    Text,
    /// Boxes that begin with length and name.
    Mp4,
    /// Elements that begin with name and length.
    Matroska,
    /// Blocks of 512 bytes; headers have a checksum.
    Tar,
    /// The length of the header, the header, the data.
    Safetensors,
    /// Entries with checksums of their content.
    Zip,
    /// Chunks with checksums of their content.
    Png,
}

/// One of `seeds` with a few changes. `words` are inserted into texts.
pub(crate) fn damaged(seeds: &[Vec<u8>], form: Form, words: &[&str], chance: &mut Chance) -> Vec<u8> {
    let seed = &seeds[chance.below(seeds.len())];
    let mut input = match form {
        Form::Mp4 if chance.one_in(2) => boxes::damaged(seed, boxes::MP4, chance),
        Form::Matroska if chance.one_in(2) => boxes::damaged(seed, boxes::MATROSKA, chance),
        _ => seed.clone(),
    };
    for _ in 0..=chance.below(6) {
        match form {
            Form::Text if !chance.one_in(4) => text::change(&mut input, seeds, words, chance),
            _ => bytes::change(&mut input, seeds, chance),
        }
    }
    if !chance.one_in(4) {
        match form {
            Form::Tar => sums::tar(&mut input),
            Form::Safetensors => sums::safetensors(&mut input),
            Form::Zip => sums::zip(&mut input),
            Form::Png => sums::png(&mut input),
            _ => {}
        }
    }
    input
}

/// The random generator SplitMix64.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}
