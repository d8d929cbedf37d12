//! Changes that are independent of the file format.

use super::Chance;

const EXTREMES: [u64; 10] = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// Changes bits, bytes or numbers; removes, duplicates or inserts pieces, also from other files.
pub(crate) fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut Chance) {
    if bytes.is_empty() {
        return;
    }
    let at = chance.below(bytes.len());
    let len = 1 + chance.below(16.min(bytes.len() - at));
    match chance.below(8) {
        0 => bytes[at] ^= 1 << chance.below(8),
        1 => bytes[at] = chance.below(256) as u8,
        2 => {
            let (number, width) = (chance.one_of(&EXTREMES), chance.one_of(&[1, 2, 4, 8]));
            let number = if chance.one_in(2) { number.to_le_bytes() } else { number.to_be_bytes() };
            let number = if chance.one_in(2) { &number[..width] } else { &number[8 - width..] };
            bytes[at..].iter_mut().zip(number).for_each(|(byte, new)| *byte = *new);
        }
        3 => {
            bytes.drain(at..at + len);
        }
        4 => {
            let piece = bytes[at..at + len].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let other = &others[chance.below(others.len())];
            if !other.is_empty() {
                let from = chance.below(other.len());
                let piece = &other[from..other.len().min(from + 1 + chance.below(64))];
                bytes.splice(at..at + len.min(piece.len()), piece.iter().copied());
            }
        }
        6 => bytes.truncate(at),
        // A digit of a header, or a letter of a pickle.
        _ if bytes[at].is_ascii_digit() => bytes[at] = b'0' + chance.below(10) as u8,
        _ => bytes[at] = chance.one_of(b"()[]{}.0aetsuRbQcqrhjXBKMJ\x80\x81\x85\x86\x87\x88\x8a\x8c\x93\x94"),
    }
}
