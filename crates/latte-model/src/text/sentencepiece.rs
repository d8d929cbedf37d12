//! Reads SentencePiece's `spiece.model`: a protocol-buffer message with the pieces, their scores, and the normaliser's table.
//!
//! Field numbers are those of SentencePiece's `sentencepiece_model.proto`. The file is not trusted: for any content, memory stays
//! within a small multiple of its size, and damage is an error.

/// The largest number of pieces. Real models have at most a few hundred thousand.
const MAX_PIECES: usize = 1 << 20;
/// The largest length of a piece in bytes. Those of real models have tens of bytes.
pub(super) const MAX_PIECE_LENGTH: usize = 1024;

/// The kind of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PieceKind {
    Normal,
    /// Replaces text that no piece matches.
    Unknown,
    /// Matches only as a special token.
    Control,
    /// Matches as a whole anywhere in the text.
    UserDefined,
    /// Never matches.
    Unused,
    /// A byte of text that no piece matches.
    Byte,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub(super) text: String,
    /// Logarithm of its probability.
    pub(super) score: f32,
    pub(super) kind: PieceKind,
}

/// The parts of a `spiece.model` that tokenising needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SentencePiece {
    /// By id.
    pub(super) pieces: Vec<Piece>,
    /// The normaliser's table; empty if the model has none.
    pub(super) charsmap: Vec<u8>,
    /// Whether a space is inserted before the first word.
    pub(super) add_dummy_prefix: bool,
}

impl SentencePiece {
    /// Parses the bytes of a file; the error says what is wrong with them.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut model = Self { pieces: Vec::new(), charsmap: Vec::new(), add_dummy_prefix: true };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => {
                    if model.pieces.len() == MAX_PIECES {
                        return Err(format!("has more than {MAX_PIECES} pieces"));
                    }
                    model.pieces.push(parse_piece(piece).map_err(|what| format!("piece {}: {what}", model.pieces.len()))?);
                }
                (2, Value::Bytes(trainer)) => check_model_type(trainer)?,
                (3, Value::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Value::Bytes(charsmap)) => model.charsmap = charsmap.to_vec(),
                            (3, Value::Integer(flag)) => model.add_dummy_prefix = flag != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        match model.pieces.iter().filter(|piece| piece.kind == PieceKind::Unknown).count() {
            1 => Ok(model),
            n => Err(format!("expected one piece for unknown text, found {n} among {} pieces", model.pieces.len())),
        }
    }

    /// The id of the piece for unknown text.
    pub(super) fn unknown(&self) -> Option<usize> {
        self.pieces.iter().position(|piece| piece.kind == PieceKind::Unknown)
    }
}

fn parse_piece(bytes: &[u8]) -> Result<Piece, String> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: PieceKind::Normal };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(text)) if text.len() <= MAX_PIECE_LENGTH => {
                piece.text = std::str::from_utf8(text).map_err(|e| format!("is no UTF-8 ({e})"))?.into();
            }
            (1, Value::Bytes(text)) => return Err(format!("has {} bytes, expected at most {MAX_PIECE_LENGTH}", text.len())),
            (2, Value::Fixed32(bits)) => piece.score = f32::from_bits(bits),
            (3, Value::Integer(kind)) => {
                piece.kind = match kind {
                    1 => PieceKind::Normal,
                    2 => PieceKind::Unknown,
                    3 => PieceKind::Control,
                    4 => PieceKind::UserDefined,
                    5 => PieceKind::Unused,
                    6 => PieceKind::Byte,
                    other => return Err(format!("is of kind {other}, expected 1 to 6")),
                }
            }
            _ => {}
        }
    }
    if piece.text.is_empty() {
        return Err("has no text".into());
    }
    if !piece.score.is_finite() {
        return Err(format!("has the score {}, expected a finite number", piece.score));
    }
    Ok(piece)
}

/// Only unigram models choose pieces by their scores alone.
fn check_model_type(trainer: &[u8]) -> Result<(), String> {
    for field in Fields(trainer) {
        if let (3, Value::Integer(kind)) = field?
            && kind != 1
        {
            return Err(format!("is a model of type {kind}, expected 1 (unigram), which T5 has"));
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Value<'a> {
    Integer(u64),
    Fixed32(u32),
    /// Skipped: no field that is read here has this type.
    Fixed64,
    Bytes(&'a [u8]),
}

/// The fields of a message: numbers and values, in the order of the file.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[]; // the rest cannot be parsed
        }
        Some(field.ok_or_else(|| "is damaged or incomplete: a field ends before its value does".into()))
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Integer(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed64
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, value))
    }

    /// A varint: seven bits per byte, the lowest first; the last byte has its highest bit clear.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        [&field, bytes].concat()
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
        bytes_field(1, &[bytes_field(1, text.as_bytes()), score, vec![3 << 3, kind]].concat())
    }

    fn model() -> Vec<u8> {
        let normalizer = bytes_field(3, &[bytes_field(1, b"identity"), bytes_field(2, &[1, 2, 3]), vec![3 << 3, 0]].concat());
        [piece("<unk>", 0.0, 2), piece("▁a", -1.5, 1), bytes_field(2, &[3 << 3, 1]), normalizer].concat()
    }

    #[test]
    fn pieces_and_the_normaliser_are_read() -> Result<(), String> {
        let model = SentencePiece::parse(&model())?;
        assert_eq!(model.pieces[1], Piece { text: "▁a".into(), score: -1.5, kind: PieceKind::Normal });
        assert_eq!((model.unknown(), model.charsmap.as_slice(), model.add_dummy_prefix), (Some(0), &[1, 2, 3][..], false));
        Ok(())
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let with = |more: &[u8]| SentencePiece::parse(&[&model(), more].concat()).err().unwrap_or_default();
        assert!(with(&piece("x", f32::NAN, 1)).contains("piece 2: has the score NaN"));
        assert!(with(&piece("", 0.0, 1)).contains("no text"));
        assert!(with(&piece(&"x".repeat(MAX_PIECE_LENGTH + 1), 0.0, 1)).contains("1025 bytes"));
        assert!(with(&piece("x", 0.0, 9)).contains("kind 9"));
        assert!(with(&bytes_field(1, &bytes_field(1, &[0xff]))).contains("UTF-8"));
        assert!(with(&bytes_field(2, &[3 << 3, 2])).contains("type 2"));
        assert!(with(&piece("<unk2>", 0.0, 2)).contains("found 2"));
        assert!(with(&[1 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x0f]).contains("damaged"));
        assert!(SentencePiece::parse(&[]).is_err_and(|what| what.contains("found 0")));
    }

    #[test]
    fn every_cut_is_an_error_or_a_shorter_model() {
        let whole = model();
        for length in 0..whole.len() {
            if let Ok(short) = SentencePiece::parse(&whole[..length]) {
                assert!(short.pieces.len() < 2 || short.charsmap.is_empty(), "{length}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..200usize) {
            let _ = SentencePiece::parse(&bytes);
            let mut damaged = model();
            let at = at % damaged.len();
            damaged.splice(at..at, bytes);
            let _ = SentencePiece::parse(&damaged);
        }
    }
}
