//! CLIP's tokenizer: splits text into words, then into bytes, and joins these by a list of merges (byte-pair encoding). The list
//! defines all tokens: a token is one of the 256 bytes, one of the 256 bytes at the end of a word, or a merge.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use candle_core::Tensor;
use latte_weights::{read_json, read_small};
use regex::Regex;
use unicode_normalization_alignments::UnicodeNormalization;

use super::{TEXT_TOKENS, VOCABULARY};
use crate::{Error, Result};

/// The tensor with the list of merges in this program's files; each value is the code point of a character.
pub(in super::super) const MERGES: &str = "tokenizer.merges";
/// Files that may hold the list; the first one found is used.
const FILES: [&str; 4] = ["merges.txt", "tokenizer.json", "bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt"];
/// Maximum unpacked length of a list in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Suffix of a piece at the end of a word in the list.
const END_OF_WORD: &str = "</w>";
/// The pattern of words: endings after an apostrophe, runs of letters, single digits, runs of other characters.
const WORD: &str = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";

/// Converts texts to tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// The token of each byte; at the end of a word, it is 256 higher.
    bytes: [u32; 256],
    /// The token that two tokens merge into, and its position in the list: earlier merges take precedence.
    merges: BTreeMap<(u32, u32), u32>,
    word: Regex,
    text: String,
}

impl Tokenizer {
    /// Reads the list in `folder`; `None` if it has none.
    ///
    /// # Errors
    ///
    /// If the list cannot be read or is damaged.
    pub fn in_folder(folder: &Path) -> Result<Option<Self>> {
        let Some(path) = FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file()) else { return Ok(None) };
        let damaged = |what: String| Error::File { path: path.clone(), what };
        let text = if path.extension().is_some_and(|e| e == "json") {
            let json = read_json(&path)?;
            let merges = json.pointer("/model/merges").and_then(serde_json::Value::as_array);
            let Some(merges) = merges else { return Err(damaged("has no list `model.merges`".into())) };
            let line = |merge: &serde_json::Value| match merge {
                serde_json::Value::String(pair) => Some(pair.clone()),
                serde_json::Value::Array(pair) => Some(format!("{} {}", pair.first()?.as_str()?, pair.get(1)?.as_str()?)),
                _ => None,
            };
            let lines = merges.iter().map(line).collect::<Option<Vec<_>>>();
            lines.ok_or_else(|| damaged("has a merge that is no pair of texts".into()))?.join("\n")
        } else {
            let mut bytes = read_small(&path)?;
            if path.extension().is_some_and(|e| e == "gz") {
                let mut unpacked = Vec::new();
                let read = flate2::read::GzDecoder::new(bytes.as_slice()).take(MAX_BYTES).read_to_end(&mut unpacked);
                read.map_err(|e| damaged(format!("cannot be unpacked: {e}")))?;
                bytes = unpacked;
            }
            latte_textfile::decode(bytes).map_err(|e| damaged(e.to_string()))?
        };
        Self::new(&text).map(Some).map_err(damaged)
    }

    /// Reads the list in a file of this program.
    pub(super) fn from_tensor(list: &Tensor) -> Result<Self> {
        let values = list.flatten_all()?.to_vec1::<f32>()?;
        let text = values.into_iter().map(|value| char::from_u32(value as u32)).collect::<Option<String>>();
        let read = text.ok_or_else(|| "is no text".to_string()).and_then(|text| Self::new(&text));
        read.map_err(|what| Error::refused(format!("`{MERGES}`"), format!("{what}; import the weights again")))
    }

    /// The list as a tensor for a file of this program.
    pub(in super::super) fn to_tensor(&self) -> Result<Tensor> {
        let values: Vec<f32> = self.text.chars().map(|c| c as u32 as f32).collect();
        let len = values.len();
        Ok(Tensor::from_vec(values, len, &candle_core::Device::Cpu)?)
    }

    /// Parses the lines of the list; the first line may be a header.
    fn new(text: &str) -> std::result::Result<Self, String> {
        let mut bytes = [0; 256];
        let mut numbers: BTreeMap<String, u32> = BTreeMap::new();
        for (number, (byte, shown)) in byte_characters().into_iter().enumerate() {
            bytes[byte as usize] = number as u32;
            numbers.insert(shown.to_string(), number as u32);
            numbers.insert(format!("{shown}{END_OF_WORD}"), number as u32 + 256);
        }
        let mut merges = BTreeMap::new();
        let is_title = |number: usize, line: &str| number == 0 && line.contains("#version");
        let lines = text.lines().enumerate().filter(|(number, line)| !line.trim().is_empty() && !is_title(*number, line));
        // Lists may have more merges than the network knows.
        for (index, (_, line)) in lines.take(VOCABULARY - 512 - 2).enumerate() {
            let number = 512 + index as u32;
            let pair = line.split_once(' ').and_then(|(a, b)| Some((a, b, *numbers.get(a)?, *numbers.get(b)?)));
            let Some((first, second, a, b)) = pair else {
                return Err(format!("has no merge of two known pieces in line {}: `{line}`", index + 1));
            };
            merges.entry((a, b)).or_insert(number);
            numbers.entry(format!("{first}{second}")).or_insert(number);
        }
        let lines: Vec<&str> = text.lines().collect();
        let word = Regex::new(WORD).map_err(|e| e.to_string())?;
        Ok(Self { bytes, merges, word, text: lines.join("\n") })
    }

    /// The tokens of a text with start and end, at most 77. The text is normalised first: letters with accents become one character
    /// if possible (NFC), in lower case.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        self.read(text).0
    }

    /// Whether a text has more tokens than are read.
    pub fn is_cut(&self, text: &str) -> bool {
        self.read(text).1
    }

    /// The tokens of a text, and whether it was cut.
    fn read(&self, text: &str) -> (Vec<u32>, bool) {
        let [begin, end] = [VOCABULARY as u32 - 2, VOCABULARY as u32 - 1];
        let mut tokens = vec![begin];
        let composed: String = text.nfc().map(|(character, _)| character).collect();
        for word in self.word.find_iter(&composed.to_lowercase()) {
            tokens.extend(self.pieces(word.as_str()));
            if tokens.len() >= TEXT_TOKENS {
                break;
            }
        }
        let is_cut = tokens.len() > TEXT_TOKENS - 1;
        tokens.truncate(TEXT_TOKENS - 1);
        tokens.push(end);
        (tokens, is_cut)
    }

    /// The tokens of a word: its bytes are joined while there are merges, the earliest in the list first.
    fn pieces(&self, word: &str) -> Vec<u32> {
        let mut pieces: Vec<u32> = word.bytes().map(|byte| self.bytes[byte as usize]).collect();
        if let Some(last) = pieces.last_mut() {
            *last += 256;
        }
        loop {
            let merged = |pair: &[u32]| self.merges.get(&(pair[0], pair[1])).copied();
            let Some(best) = pieces.windows(2).filter_map(merged).min() else { return pieces };
            let mut joined = Vec::with_capacity(pieces.len());
            let mut at = 0;
            while at < pieces.len() {
                if at + 1 < pieces.len() && merged(&pieces[at..at + 2]) == Some(best) {
                    joined.push(best);
                    at += 2;
                } else {
                    joined.push(pieces[at]);
                    at += 1;
                }
            }
            pieces = joined;
        }
    }
}

/// All bytes in the order of their tokens, each with the character that represents it in the list: printable bytes represent
/// themselves, others have a character above the first 256.
fn byte_characters() -> Vec<(u8, char)> {
    let printed = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut characters: Vec<(u8, char)> = (0..=255).filter(printed).map(|byte| (byte, char::from(byte))).collect();
    let others = (0..=255u8).filter(|byte| !printed(byte)).zip('\u{100}'..);
    characters.extend(others);
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "#version: 0.2\nc a\nt </w>\nca t</w>\n";

    #[test]
    fn words_are_endings_letters_digits_and_others() {
        let word = Regex::new(WORD).unwrap();
        let words = |text| word.find_iter(text).map(|word| word.as_str()).collect::<Vec<_>>();
        assert_eq!(
            words("it's  12 cats' paws!?\né… 'tis"),
            ["it", "'s", "1", "2", "cats", "'", "paws", "!?", "é", "…", "'t", "is"]
        );
    }

    #[test]
    fn pieces_are_joined_in_the_order_of_the_list() {
        let list = "#version: 0.2\nc a\nca t</w>\na t</w>\n";
        let tokenizer = Tokenizer::new(list).unwrap();
        let byte = |c: char| c as u32 - '!' as u32;
        assert_eq!(tokenizer.tokens("Cat"), [49_406, 513, 49_407]);
        // The merge `c a` takes precedence over `a t`.
        assert_eq!(tokenizer.tokens("cats at"), [49_406, 512, byte('t'), byte('s') + 256, 514, 49_407]);
        // The first printable byte is `!`; bytes that are not printable come after all that are.
        assert_eq!(tokenizer.tokens("!"), [49_406, 256, 49_407]);
        let long = tokenizer.tokens(&"cat ".repeat(100));
        assert!(!tokenizer.is_cut(&"cat ".repeat(TEXT_TOKENS - 2)) && tokenizer.is_cut(&"cat ".repeat(TEXT_TOKENS - 1)));
        assert_eq!((long.len(), long[75], long[76]), (77, 513, 49_407));
        assert_eq!(tokenizer.tokens(""), [49_406, 49_407]);
        // A combining accent gives the same tokens as a precomposed letter.
        assert_eq!(tokenizer.tokens("cafe\u{301}"), tokenizer.tokens("CAF\u{c9}"));
        // The two bytes of `é`, numbered as in transformers.
        assert_eq!(tokenizer.tokens("e\u{301}"), [49_406, 127, 358, 49_407]);
    }

    #[test]
    fn the_list_survives_a_file_and_damage_is_reported() {
        let tokenizer = Tokenizer::new("#version: 0.2\nc a\nca t</w>\n").unwrap();
        let again = Tokenizer::from_tensor(&tokenizer.to_tensor().unwrap()).unwrap();
        assert_eq!(again.tokens("a cat"), tokenizer.tokens("a cat"));
        assert!(Tokenizer::new(LIST).unwrap_err().contains("line 2"));
        let folder = tempfile::tempdir().unwrap();
        assert!(Tokenizer::in_folder(folder.path()).unwrap().is_none());
        let json = folder.path().join("tokenizer.json");
        std::fs::write(&json, r#"{"model": {"merges": [["c", "a"], "ca t</w>"]}}"#).unwrap();
        assert_eq!(Tokenizer::in_folder(folder.path()).unwrap().unwrap().tokens("cat"), tokenizer.tokens("cat"));
        std::fs::write(&json, r#"{"model": {"merges": [["c"]]}}"#).unwrap();
        assert!(Tokenizer::in_folder(folder.path()).is_err());
        // OpenAI's list is compressed and has another first line.
        std::fs::remove_file(&json).unwrap();
        let packed = folder.path().join("bpe_simple_vocab_16e6.txt.gz");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, b"\"bpe_simple_vocab_16e6.txt#version: 0.2\nc a\nca t</w>\n").unwrap();
        let gz = gz.finish().unwrap();
        std::fs::write(&packed, &gz).unwrap();
        assert_eq!(Tokenizer::in_folder(folder.path()).unwrap().unwrap().tokens("cat"), tokenizer.tokens("cat"));
        std::fs::write(&packed, &gz[..gz.len() / 2]).unwrap();
        assert!(Tokenizer::in_folder(folder.path()).is_err_and(|e| e.to_string().contains("cannot be unpacked")));
        std::fs::write(folder.path().join("merges.txt"), "a b c\n").unwrap();
        assert!(Tokenizer::in_folder(folder.path()).is_err_and(|e| e.to_string().contains("merges.txt")));
        // As Windows programs save it.
        std::fs::write(folder.path().join("merges.txt"), "\u{feff}c a\r\nca t</w>\r\n").unwrap();
        assert_eq!(Tokenizer::in_folder(folder.path()).unwrap().unwrap().tokens("cat"), tokenizer.tokens("cat"));
        let wide: Vec<u8> = "c a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        std::fs::write(folder.path().join("merges.txt"), wide).unwrap();
        assert!(Tokenizer::in_folder(folder.path()).is_err_and(|e| e.to_string().ends_with("it is UTF-16; save it as UTF-8")));
    }
}
