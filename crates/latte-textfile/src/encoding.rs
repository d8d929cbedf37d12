//! Decodes bytes as UTF-8, with or without a byte-order mark, and recognises other encodings.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// The byte-order mark. UTF-8 has no byte order, but Windows programs write the mark to distinguish UTF-8 from older encodings.
const MARK: char = '\u{feff}';

/// Bytes that are not UTF-8 text; the message says what they are and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotText(String);

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotText {}

impl From<NotText> for io::Error {
    fn from(error: NotText) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The text of `bytes`, without byte-order marks.
///
/// # Errors
///
/// If they are not UTF-8 text.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    refuse_wide(&bytes)?;
    let text = String::from_utf8(bytes).map_err(|e| not_utf8(e.as_bytes(), e.utf8_error().valid_up_to()))?;
    Ok(if text.contains(MARK) { without_marks(&text) } else { text })
}

/// As [`decode`], without a copy if there is no mark.
///
/// # Errors
///
/// If they are not UTF-8 text.
pub fn as_text(bytes: &[u8]) -> Result<Cow<'_, str>, NotText> {
    refuse_wide(bytes)?;
    let text = std::str::from_utf8(bytes).map_err(|e| not_utf8(bytes, e.valid_up_to()))?;
    Ok(if text.contains(MARK) { Cow::Owned(without_marks(text)) } else { Cow::Borrowed(text) })
}

/// The text without byte-order marks at its start.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches(MARK)
}

/// Removes marks at the start of the text and of each line: concatenated files have them in the middle.
fn without_marks(text: &str) -> String {
    text.split_inclusive('\n').map(without_mark).collect()
}

/// Returns an error if the bytes are UTF-16, UTF-32 or no text at all, with or without a mark. The first few kilobytes suffice;
/// bytes that pass may still be invalid UTF-8.
///
/// # Errors
///
/// If they are something else than UTF-8 text.
pub fn refuse_wide(bytes: &[u8]) -> Result<(), NotText> {
    let what = |name: &str| Err(NotText(format!("it is {name}; save it as UTF-8")));
    match bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => return what("UTF-32"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return what("UTF-16"),
        _ => {}
    }
    if !bytes.contains(&0) {
        return Ok(());
    }
    // The first bytes suffice. The last character may be cut, so the checks below use whole characters only.
    let head = &bytes[..bytes.len().min(4096)];
    let is_utf32 = |read: fn([u8; 4]) -> u32| {
        let (signs, _) = head.as_chunks::<4>();
        // Text has no characters beyond this one, but two UTF-16 characters read as UTF-32 look like such.
        let is_sign = |sign: char| is_written(sign) && sign < '\u{40000}';
        !signs.is_empty() && signs.iter().all(|four| char::from_u32(read(*four)).is_some_and(is_sign))
    };
    let is_utf16 = |read: fn([u8; 2]) -> u16| {
        let (units, _) = head.as_chunks::<2>();
        let mut signs: Vec<_> = char::decode_utf16(units.iter().map(|two| read(*two))).collect();
        // The second half of the last character may be cut off.
        if head.len() < bytes.len() {
            signs.pop();
        }
        !signs.is_empty() && signs.iter().all(|sign| sign.as_ref().is_ok_and(|sign| is_written(*sign)))
    };
    if is_utf32(u32::from_le_bytes) || is_utf32(u32::from_be_bytes) {
        return what("UTF-32");
    }
    // NULs alone do not show the byte order, but text does.
    if is_utf16(u16::from_le_bytes) || is_utf16(u16::from_be_bytes) {
        return what("UTF-16");
    }
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or_default();
    Err(NotText(format!(
        "it is no text: byte {at} is 0, which stands in no text of UTF-8; it may be damaged, or another kind of file"
    )))
}

/// Whether a character can occur in text.
fn is_written(sign: char) -> bool {
    !sign.is_control() || matches!(sign, '\t' | '\n' | '\r')
}

fn not_utf8(bytes: &[u8], at: usize) -> NotText {
    let line = bytes[..at].split(|byte| *byte == b'\n').count();
    let byte = bytes.get(at).copied().unwrap_or_default();
    NotText(format!(
        "line {line} is no UTF-8 (byte {at} is 0x{byte:02X}): it is in another encoding, or no text; save it as UTF-8"
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn utf16(text: &str, read: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(read).collect()
    }

    fn utf32(text: &str, read: fn(u32) -> [u8; 4]) -> Vec<u8> {
        text.chars().flat_map(|sign| read(sign as u32)).collect()
    }

    fn refused(bytes: &[u8]) -> String {
        let said = decode(bytes.to_vec()).unwrap_err().to_string();
        assert_eq!(as_text(bytes).unwrap_err().to_string(), said);
        said
    }

    #[test]
    fn marks_are_removed_at_the_start_and_where_files_were_joined() {
        for (text, expected) in [
            ("a\r\nb", "a\r\nb"),
            ("\u{feff}a\nb\n", "a\nb\n"),
            ("\u{feff}\u{feff}a\n\u{feff}b", "a\nb"),
            ("a\u{feff}b", "a\u{feff}b"),
            ("\u{feff}", ""),
            ("", ""),
        ] {
            assert_eq!(decode(text.as_bytes().to_vec()).unwrap(), expected);
            assert_eq!(as_text(text.as_bytes()).unwrap(), expected);
        }
        assert_eq!(without_mark("\u{feff}a"), "a");
    }

    #[test]
    fn other_encodings_are_named() {
        for text in ["path,label\r\na.mp4,1\r\n", "ä", "7", "0\r\n", "10\n", "\u{4e00}\u{4e8c}\n\u{4e09}", "\u{1f600} a"] {
            for bytes in [utf16(text, u16::to_le_bytes), utf16(text, u16::to_be_bytes)] {
                if bytes.contains(&0) {
                    assert_eq!(refused(&bytes), "it is UTF-16; save it as UTF-8", "{text}");
                }
            }
            let marked = format!("\u{feff}{text}");
            for bytes in [utf16(&marked, u16::to_le_bytes), utf16(&marked, u16::to_be_bytes)] {
                assert_eq!(refused(&bytes), "it is UTF-16; save it as UTF-8", "{text}");
            }
            for text in [text, &marked] {
                for bytes in [utf32(text, u32::to_le_bytes), utf32(text, u32::to_be_bytes)] {
                    assert_eq!(refused(&bytes), "it is UTF-32; save it as UTF-8", "{text}");
                }
            }
        }
        assert!(refused(b"a\nb\xE4c").starts_with("line 2 is no UTF-8 (byte 3 is 0xE4)"));
        assert!(refused(b"\x7FELF\x02\x01\0\0\0\x03").starts_with("it is no text: byte 6 is 0"));
        assert!(refused(b"a\n\0\0\0\0\0\0\0").starts_with("it is no text: byte 2 is 0"));
        // A surrogate pair across the 4096th byte.
        let long = utf16(&format!("{}\u{1f600}", "a".repeat(2047)), u16::to_le_bytes);
        assert_eq!(refused(&long), "it is UTF-16; save it as UTF-8");
    }

    #[test]
    fn an_encoding_error_converts_to_invalid_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.txt");
        std::fs::write(&path, utf16("ab", u16::to_le_bytes)).unwrap();
        let error = crate::read(&path).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::InvalidData, "it is UTF-16; save it as UTF-8"));
        std::fs::write(&path, "\u{feff}ab").unwrap();
        assert_eq!(crate::read(&path).unwrap(), "ab");
    }

    proptest! {
        /// Text without NULs and marks is unchanged, with or without a mark in front.
        #[test]
        fn text_is_unchanged(text in "[^\0\u{feff}]*") {
            prop_assert_eq!(&decode(text.clone().into_bytes()).unwrap(), &text);
            prop_assert_eq!(decode(format!("\u{feff}{text}").into_bytes()).unwrap(), text);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop::num::u8::ANY, 0..64)) {
            prop_assert_eq!(decode(bytes.clone()).map_err(|e| e.to_string()), as_text(&bytes).map(Cow::into_owned).map_err(|e| e.to_string()));
        }
    }
}
