//! Reads `spiece.model`, the file of a SentencePiece vocabulary: a protocol-buffer message.
//!
//! Only what a Unigram tokenizer needs is kept. The reader trusts no length: whatever the file says, it looks at each byte at most
//! once and keeps no more than the file holds.

use crate::{Error, Result};

/// A vocabulary with its normaliser.
#[derive(Debug, Clone, PartialEq)]
pub struct SentencePieceModel {
    /// Each piece with its log-probability; a piece's number is its place.
    pub pieces: Vec<(String, f64)>,
    /// The number of the piece that stands for everything unknown.
    pub unknown: usize,
    /// The compiled table by which text is normalised; empty where there is none.
    pub normalizer: Vec<u8>,
}

/// The numbers of fields, from `sentencepiece_model.proto`.
mod field {
    pub(super) const PIECES: u64 = 1;
    pub(super) const TRAINER: u64 = 2;
    pub(super) const NORMALIZER: u64 = 3;
    pub(super) const PIECE_TEXT: u64 = 1;
    pub(super) const PIECE_SCORE: u64 = 2;
    pub(super) const PIECE_TYPE: u64 = 3;
    pub(super) const MODEL_TYPE: u64 = 3;
    pub(super) const CHARSMAP: u64 = 2;
}

/// The type of the unknown piece, and of a Unigram model.
const UNKNOWN: u64 = 2;
const UNIGRAM: u64 = 1;

impl SentencePieceModel {
    /// Reads the bytes of a file.
    ///
    /// # Errors
    ///
    /// If they are no such message, hold no pieces, no unknown piece, or a model that is not Unigram.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let (mut pieces, mut unknown, mut normalizer) = (Vec::new(), None, Vec::new());
        let mut message = Message(bytes);
        while let Some((number, value)) = message.next()? {
            match (number, value) {
                (field::PIECES, Value::Bytes(piece)) => {
                    let (text, score, kind) = parse_piece(piece)?;
                    if kind == UNKNOWN {
                        unknown = unknown.or(Some(pieces.len()));
                    }
                    pieces.push((text, score));
                }
                (field::TRAINER, Value::Bytes(trainer)) => check_trainer(trainer)?,
                (field::NORMALIZER, Value::Bytes(spec)) => {
                    let mut spec = Message(spec);
                    while let Some((number, value)) = spec.next()? {
                        if let (field::CHARSMAP, Value::Bytes(table)) = (number, value) {
                            normalizer = table.to_vec();
                        }
                    }
                }
                _ => {}
            }
        }
        if pieces.is_empty() {
            return Err(wrong("it holds no pieces"));
        }
        Ok(Self { pieces, unknown: unknown.ok_or_else(|| wrong("no piece stands for the unknown"))?, normalizer })
    }
}

fn wrong(what: &str) -> Error {
    Error::config("spiece.model", format!("is no SentencePiece model of the Unigram type: {what}; copy the file again"))
}

fn parse_piece(bytes: &[u8]) -> Result<(String, f64, u64)> {
    let (mut text, mut score, mut kind) = (None, 0.0, 1);
    let mut message = Message(bytes);
    while let Some((number, value)) = message.next()? {
        match (number, value) {
            (field::PIECE_TEXT, Value::Bytes(bytes)) => {
                text = Some(std::str::from_utf8(bytes).map_err(|e| wrong(&format!("a piece is no text ({e})")))?.to_string());
            }
            (field::PIECE_SCORE, Value::Fixed32(bits)) => score = f64::from(f32::from_bits(bits)),
            (field::PIECE_TYPE, Value::Integer(n)) => kind = n,
            _ => {}
        }
    }
    if !score.is_finite() {
        return Err(wrong("a piece's score is no number"));
    }
    Ok((text.ok_or_else(|| wrong("a piece has no text"))?, score, kind))
}

fn check_trainer(bytes: &[u8]) -> Result<()> {
    let mut message = Message(bytes);
    while let Some((number, value)) = message.next()? {
        if let (field::MODEL_TYPE, Value::Integer(kind)) = (number, value)
            && kind != UNIGRAM
        {
            return Err(wrong(&format!("its model type is {kind}")));
        }
    }
    Ok(())
}

/// What is left of a message.
struct Message<'b>(&'b [u8]);

/// The value of a field.
enum Value<'b> {
    Integer(u64),
    Bytes(&'b [u8]),
    Fixed32(u32),
    Fixed64,
}

impl<'b> Message<'b> {
    /// The next field's number and value.
    fn next(&mut self) -> Result<Option<(u64, Value<'b>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.integer()?;
        let value = match key & 7 {
            0 => Value::Integer(self.integer()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = self.integer()?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => {
                let mut bits = [0; 4];
                bits.copy_from_slice(self.take(4)?);
                Value::Fixed32(u32::from_le_bytes(bits))
            }
            other => return Err(wrong(&format!("wire type {other}"))),
        };
        Ok(Some((key >> 3, value)))
    }

    /// Seven bits to a byte, the lowest first; the eighth says that more follow.
    fn integer(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(wrong("a number of more than ten bytes"))
    }

    fn take(&mut self, count: usize) -> Result<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| wrong("it ends in the middle of a field"))?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut inner = vec![0x0A, text.len() as u8];
        inner.extend(text.as_bytes());
        inner.push(0x15);
        inner.extend(score.to_le_bytes());
        inner.extend([0x18, kind]);
        let mut outer = vec![0x0A, inner.len() as u8];
        outer.extend(inner);
        outer
    }

    fn model() -> Vec<u8> {
        let mut bytes = piece("<unk>", 0.0, 2);
        bytes.extend(piece("▁a", -1.5, 1));
        bytes.extend([0x12, 0x02, 0x18, 0x01]); // the trainer: Unigram
        bytes.extend([0x1A, 0x05, 0x12, 0x03, 7, 8, 9]); // the normaliser's table
        bytes
    }

    #[test]
    fn pieces_and_normalizer_are_read() -> Result<()> {
        let found = SentencePieceModel::parse(&model())?;
        assert_eq!(found.pieces, [("<unk>".to_string(), 0.0), ("▁a".to_string(), -1.5)]);
        assert_eq!((found.unknown, found.normalizer), (0, vec![7, 8, 9]));
        Ok(())
    }

    #[test]
    fn every_cut_of_a_file_is_refused_or_read_but_never_a_panic() {
        let whole = model();
        for end in 0..whole.len() {
            let _ = SentencePieceModel::parse(&whole[..end]);
        }
        for hostile in [&[][..], &[0xFF; 12], &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], &[0x0B], &piece("a", f32::NAN, 2)] {
            assert!(SentencePieceModel::parse(hostile).is_err(), "{hostile:?}");
        }
        let mut bpe = model();
        bpe.extend([0x12, 0x02, 0x18, 0x02]);
        assert!(SentencePieceModel::parse(&bpe).is_err());
    }

    proptest! {
        #[test]
        fn changed_bytes_never_panic(place in 0usize..64, byte in any::<u8>(), noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = model();
            let place = place % bytes.len();
            bytes[place] = byte;
            let _ = SentencePieceModel::parse(&bytes);
            let _ = SentencePieceModel::parse(&noise);
        }
    }
}
