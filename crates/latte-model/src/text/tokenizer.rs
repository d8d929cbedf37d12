//! Tokenises text for T5, from `tokenizer.json` or directly from SentencePiece's `spiece.model`.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::Value;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::Precompiled;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use super::charsmap;
use super::sentencepiece::{MAX_PIECE_LENGTH, PieceKind, SentencePiece};
use crate::weights::{read_json_if_there, read_small, refuse};
use crate::{Error, Result};

/// T5's default number of sentinel tokens, which configurations may leave out.
const DEFAULT_EXTRA_IDS: u64 = 100;
const MAX_EXTRA_IDS: u64 = 100_000;

/// The token ids of a text, padded to a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The ids; padding from [`length`](Self::length) on.
    pub ids: Vec<u32>,
    /// The number of ids without padding, including the end-of-text token.
    pub length: usize,
    /// The number of ids of the text that were cut off.
    pub cut: usize,
}

/// Converts text to token ids, with an end-of-text token after each text, as in T5's training.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    pieces: tokenizers::Tokenizer,
    end: u32,
    padding: u32,
    /// The id for text without a token; some tokenizers can encode everything.
    unknown: Option<u32>,
}

/// The byte ranges of a text's tokens.
pub(super) struct Places {
    /// The range of each token except the end-of-text token.
    pub(super) pieces: Vec<Range<usize>>,
    /// The ranges without a token.
    pub(super) unknown: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Opens the tokenizer in `folder`: its `tokenizer.json` if there is one, else its `spiece.model`.
    ///
    /// # Errors
    ///
    /// If there is neither, or it cannot be read or parsed.
    pub fn open(folder: &Path) -> Result<Self> {
        if folder.join("tokenizer.json").exists() { Self::from_json(folder) } else { Self::from_sentencepiece(folder) }
    }

    /// Opens `tokenizer.json` in `folder`, with `tokenizer_config.json` if it exists.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a tokenizer of T5's kind (unigram).
    pub fn from_json(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bad = |what: String| refuse(&path, what);
        let bytes = read_small(&path)?;
        let text = latte_textfile::as_text(&bytes).map_err(|e| bad(e.to_string()))?;
        let json: Value = serde_json::from_str(&text).map_err(|e| bad(format!("is no JSON: {e}")))?;
        check_json(&json).map_err(bad)?;
        let mut tokenizer =
            tokenizers::Tokenizer::from_bytes(text.as_bytes()).map_err(|e| bad(format!("cannot be parsed: {e}")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| bad(e.to_string()))?;
        Self::finish(tokenizer, folder, &path)
    }

    /// Opens `spiece.model` in `folder`, with `tokenizer_config.json` and `added_tokens.json` if they exist.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a unigram model.
    pub fn from_sentencepiece(folder: &Path) -> Result<Self> {
        let path = folder.join("spiece.model");
        let bad = |what: String| refuse(&path, what);
        let model = SentencePiece::parse(&read_small(&path)?).map_err(bad)?;
        let special = SpecialTokens::read(folder, &model)?;
        let tokenizer = build(&model, &special).map_err(bad)?;
        Self::finish(tokenizer, folder, &path)
    }

    fn finish(tokenizer: tokenizers::Tokenizer, folder: &Path, path: &Path) -> Result<Self> {
        let config = json_or_null(&folder.join("tokenizer_config.json"))?;
        let id = |key: &str, default: &str| {
            let token = token_text(&config[key]).unwrap_or(default);
            let what = || format!("has no `{token}`, which T5 needs as {key}; is it another model's tokenizer?");
            tokenizer.token_to_id(token).ok_or_else(|| refuse(path, what()))
        };
        let (end, padding) = (id("eos_token", "</s>")?, id("pad_token", "<pad>")?);
        let unknown = tokenizer.token_to_id(token_text(&config["unk_token"]).unwrap_or("<unk>"));
        Ok(Self { pieces: tokenizer, end, padding, unknown })
    }

    /// The ids of `text`, including the end-of-text token.
    ///
    /// # Errors
    ///
    /// If the text has parts without a token, and the tokenizer has no token for unknown text.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.pieces.encode_fast(text, false).map_err(|e| Error::config("prompt", format!("cannot be tokenised: {e}")))?;
        Ok(encoding.get_ids().iter().copied().chain([self.end]).collect())
    }

    /// The ids of `text`, cut (keeping the end-of-text token) or padded to `length`.
    ///
    /// # Errors
    ///
    /// Those of [`ids`](Self::ids), or if `length` is 0.
    pub fn encode(&self, text: &str, length: usize) -> Result<Tokens> {
        if length == 0 {
            return Err(Error::config("text length", "expected at least 1 token, got 0"));
        }
        let mut ids = self.ids(text)?;
        let cut = ids.len().saturating_sub(length);
        if cut > 0 {
            ids.truncate(length - 1);
            ids.push(self.end);
        }
        let real = ids.len();
        ids.resize(length, self.padding);
        Ok(Tokens { ids, length: real, cut })
    }
}

impl Tokenizer {
    /// The byte ranges of the tokens of `text`.
    pub(super) fn places(&self, text: &str) -> Result<Places> {
        let encoding =
            self.pieces.encode(text, false).map_err(|e| Error::config("prompt", format!("cannot be tokenised: {e}")))?;
        let pieces: Vec<Range<usize>> = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        let is_unknown = |id: &u32| self.unknown == Some(*id);
        let unknown = encoding.get_ids().iter().zip(&pieces).filter(|(id, _)| is_unknown(id)).map(|(_, place)| place.clone());
        Ok(Places { unknown: unknown.collect(), pieces })
    }
}

/// Tokens that match as a whole, whatever surrounds them.
struct SpecialTokens(BTreeMap<u32, AddedToken>);

impl SpecialTokens {
    /// The special tokens of the model and of the files beside it. Newer folders list all in `added_tokens_decoder`, older ones in
    /// `added_tokens.json`; without either, T5's sentinels follow the pieces, the last one first.
    fn read(folder: &Path, model: &SentencePiece) -> Result<Self> {
        let config_path = folder.join("tokenizer_config.json");
        let config = json_or_null(&config_path)?;
        let added_path = folder.join("added_tokens.json");
        let added = json_or_null(&added_path)?;
        let mut tokens = BTreeMap::new();
        for (id, piece) in model.pieces.iter().enumerate() {
            let special = match piece.kind {
                PieceKind::Control | PieceKind::Unknown => true,
                PieceKind::UserDefined => false,
                _ => continue,
            };
            tokens.insert(id as u32, AddedToken::from(&*piece.text, special).normalized(false));
        }
        let bad = |path: &Path, id: &str| {
            let most = model.pieces.len() as u64 + MAX_EXTRA_IDS;
            refuse(path, format!("expected the id of an added token, a number below {most}, got `{id}`"))
        };
        let largest = model.pieces.len() as u64 + MAX_EXTRA_IDS;
        let decoder = config["added_tokens_decoder"].as_object();
        for (id, token) in decoder.into_iter().flatten() {
            let Some(text) = token_text(token) else { continue };
            let id_value: u32 = id.parse().ok().filter(|&id| u64::from(id) < largest).ok_or_else(|| bad(&config_path, id))?;
            let flag = |key: &str, default| token[key].as_bool().unwrap_or(default);
            let token = AddedToken::from(text, flag("special", true)).normalized(flag("normalized", false));
            tokens.insert(
                id_value,
                token.lstrip(flag("lstrip", false)).rstrip(flag("rstrip", false)).single_word(flag("single_word", false)),
            );
        }
        for (text, id) in added.as_object().into_iter().flatten() {
            let id = id.as_u64().filter(|&id| id < largest).ok_or_else(|| bad(&added_path, &id.to_string()))?;
            tokens.entry(id as u32).or_insert_with(|| AddedToken::from(&**text, true).normalized(false));
        }
        if decoder.is_none() && added.is_null() {
            let count = match &config["extra_ids"] {
                Value::Null => DEFAULT_EXTRA_IDS,
                value => value.as_u64().filter(|&n| n <= MAX_EXTRA_IDS).ok_or_else(|| bad(&config_path, &value.to_string()))?,
            };
            for k in 0..count {
                let id = model.pieces.len() as u64 + count - 1 - k;
                tokens.insert(id as u32, AddedToken::from(format!("<extra_id_{k}>"), true).normalized(false));
            }
        }
        tokens.retain(|_, token| !token.content.is_empty());
        if let Some(token) = tokens.values().find(|token| token.content.len() > MAX_PIECE_LENGTH) {
            let what = format!("has an added token of {} bytes, expected at most {MAX_PIECE_LENGTH}", token.content.len());
            return Err(refuse(&config_path, what).into());
        }
        Ok(Self(tokens))
    }
}

/// Builds T5's tokenizer: replace characters by the model's table, split at spaces, put `▁` before each word, choose the likeliest
/// pieces.
fn build(model: &SentencePiece, special: &SpecialTokens) -> std::result::Result<tokenizers::Tokenizer, String> {
    let lowest = model.pieces.iter().map(|piece| f64::from(piece.score)).fold(f64::INFINITY, f64::min);
    // No text contains these pieces: they only keep the ids of the pieces after them.
    let filler = |id: usize| (format!("\u{0}{id}"), lowest);
    let mut vocabulary: Vec<(String, f64)> = Vec::with_capacity(model.pieces.len());
    for (id, piece) in model.pieces.iter().enumerate() {
        let unused = piece.kind == PieceKind::Unused;
        vocabulary.push(if unused { filler(id) } else { (piece.text.clone(), f64::from(piece.score)) });
    }
    for (&id, token) in &special.0 {
        let id = id as usize;
        while vocabulary.len() <= id {
            vocabulary.push(filler(vocabulary.len()));
        }
        if id >= model.pieces.len() {
            vocabulary[id] = (token.content.clone(), 0.0);
        }
    }
    let byte_fallback = model.pieces.iter().any(|piece| piece.kind == PieceKind::Byte);
    let unigram = Unigram::from(vocabulary, model.unknown(), byte_fallback).map_err(|e| e.to_string())?;
    let mut tokenizer = tokenizers::Tokenizer::new(unigram);
    if !model.charsmap.is_empty() {
        charsmap::check(&model.charsmap).map_err(|what| format!("its table of characters {what}"))?;
        let normalizer = Precompiled::from(&model.charsmap).map_err(|e| e.to_string())?;
        tokenizer.with_normalizer(Some(normalizer)).map_err(|e| e.to_string())?;
    }
    let scheme = if model.add_dummy_prefix { PrependScheme::Always } else { PrependScheme::Never };
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::WhitespaceSplit(WhitespaceSplit),
        PreTokenizerWrapper::Metaspace(Metaspace::new('▁', scheme, true)),
    ])));
    tokenizer.add_tokens(special.0.values().cloned()).map_err(|e| e.to_string())?;
    Ok(tokenizer)
}

/// Checks what the crate that reads `tokenizer.json` does not check.
fn check_json(json: &Value) -> std::result::Result<(), String> {
    let kind = json["model"]["type"].as_str().unwrap_or("none");
    if kind != "Unigram" {
        return Err(format!("has a model of type {kind}, expected Unigram, which T5 has"));
    }
    let pieces = json["model"]["vocab"].as_array().into_iter().flatten().map(|entry| &entry[0]);
    let added = json["added_tokens"].as_array().into_iter().flatten().map(|token| &token["content"]);
    if let Some(text) = pieces.chain(added).filter_map(Value::as_str).find(|text| text.len() > MAX_PIECE_LENGTH) {
        return Err(format!("has a piece of {} bytes, expected at most {MAX_PIECE_LENGTH}", text.len()));
    }
    check_charsmaps(json)
}

/// The key of a normaliser's table of characters.
const CHARSMAP: &str = "precompiled_charsmap";

/// Checks the tables of normalisers, which may be nested.
fn check_charsmaps(json: &Value) -> std::result::Result<(), String> {
    match json {
        // The crate panics if the table is missing.
        Value::Object(map)
            if map.get("type").is_some_and(|kind| kind == "Precompiled") && !map.get(CHARSMAP).is_some_and(Value::is_string) =>
        {
            Err(format!("has a normaliser `Precompiled` without its `{CHARSMAP}`"))
        }
        Value::Object(map) => map.iter().try_for_each(|(key, value)| match value {
            Value::String(text) if key == CHARSMAP => {
                let bytes = charsmap::from_base64(text).ok_or("has a table of characters that is no Base64")?;
                charsmap::check(&bytes).map_err(|what| format!("its table of characters {what}"))
            }
            _ => check_charsmaps(value),
        }),
        Value::Array(list) => list.iter().try_for_each(check_charsmaps),
        _ => Ok(()),
    }
}

/// A token in a configuration: its text, or an object with the text in `content`.
fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// The JSON of a file; `null` if the file does not exist.
fn json_or_null(path: &Path) -> Result<Value> {
    Ok(read_json_if_there(path)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_normaliser_without_its_table_is_an_error_wherever_it_lies() {
        let with = |normalizer: Value| check_json(&json!({"model": {"type": "Unigram", "vocab": []}, "normalizer": normalizer}));
        let broken = [json!({"type": "Precompiled"}), json!({"type": "Precompiled", "precompiled_charsmap": null})];
        for one in broken {
            for normalizer in [one.clone(), json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, one]})] {
                let said = with(normalizer).unwrap_err();
                assert!(said.contains("`Precompiled` without its `precompiled_charsmap`"), "{said}");
            }
        }
        assert_eq!(with(json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]})), Ok(()));
    }
}
