//! Texts to the numbers of their tokens, as T5 was trained with.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::{Precompiled, Replace, Sequence, Strip};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::utils::SysRegex;
use tokenizers::{AddedToken, NormalizerWrapper};

use super::spiece::SentencePieceModel;
use crate::{Error, Result};

/// The tokenizer of a T5 encoder.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    end: u32,
    padding: u32,
}

/// The tokens of a text, padded to a length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The numbers of the tokens, padding behind them.
    pub ids: Vec<u32>,
    /// How many of them are the text's, its end included.
    pub length: usize,
}

impl Tokens {
    /// 1 for the text's tokens, 0 for padding.
    pub fn mask(&self) -> Vec<u32> {
        (0..self.ids.len()).map(|i| u32::from(i < self.length)).collect()
    }
}

/// What ends a text, and what stands behind it, where files say nothing else.
const END: &str = "</s>";
const PADDING: &str = "<pad>";

impl Tokenizer {
    /// Opens a `tokenizer` folder: `tokenizer.json` if there is one, else `spiece.model`.
    ///
    /// # Errors
    ///
    /// If there is neither, or the file is damaged.
    pub fn open(folder: &Path) -> Result<Self> {
        let [json, spiece] = ["tokenizer.json", "spiece.model"].map(|name| folder.join(name));
        if json.is_file() {
            return Self::from_json(&json);
        }
        if spiece.is_file() {
            return Self::from_spiece(&spiece);
        }
        Err(wrong(folder, "expected a folder with tokenizer.json or spiece.model"))
    }

    /// Opens a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is no tokenizer.
    pub fn from_json(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| wrong(path, format!("is no tokenizer: {e}")))?;
        // Ends and padding are set here, whatever the file has to say about them.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| wrong(path, e.to_string()))?;
        Self::new(inner, path)
    }

    /// Opens a `spiece.model`, with the special tokens of the configuration files beside it.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is no Unigram model.
    pub fn from_spiece(path: &Path) -> Result<Self> {
        let model = SentencePieceModel::parse(&read(path)?).map_err(|e| wrong(path, e.to_string()))?;
        let bad = |e: &dyn std::fmt::Display| wrong(path, format!("cannot be used: {e}"));
        let known = model.pieces.len();
        let unigram = Unigram::from(model.pieces, Some(model.unknown), false).map_err(|e| bad(&e))?;
        let mut inner = tokenizers::Tokenizer::new(unigram);
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        if !model.normalizer.is_empty() {
            normalizers.push(Precompiled::from(&model.normalizer).map_err(|e| bad(&e))?.into());
        }
        normalizers.push(Strip::new(true, true).into());
        // A fixed pattern: it cannot fail to compile.
        let spaces = tokenizers::normalizers::replace::ReplacePattern::Regex(" {2,}".into());
        SysRegex::new(" {2,}").map_err(|e| bad(&e))?;
        normalizers.push(Replace::new(spaces, " ").map_err(|e| bad(&e))?.into());
        inner.with_normalizer(Some(Sequence::new(normalizers))).map_err(|e| bad(&e))?;
        inner.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, false)));
        let special: Vec<AddedToken> = [END, PADDING, "<unk>"]
            .into_iter()
            .map(String::from)
            .chain(added_tokens(path, known)?)
            .map(|t| AddedToken::from(t, true))
            .collect();
        inner.add_special_tokens(special).map_err(|e| bad(&e))?;
        Self::new(inner, path)
    }

    fn new(inner: tokenizers::Tokenizer, path: &Path) -> Result<Self> {
        let number = |token: &str| {
            inner
                .token_to_id(token)
                .ok_or_else(|| wrong(path, format!("expected the token {token} in the vocabulary; is this T5's?")))
        };
        let (end, padding) = (number(END)?, number(PADDING)?);
        Ok(Self { inner, end, padding })
    }

    /// The tokens of `text`, the end included, without padding.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, false).map_err(|e| Error::config("text", format!("cannot be tokenized: {e}")))?;
        let mut ids = encoding.get_ids().to_vec();
        ids.push(self.end);
        Ok(ids)
    }

    /// The tokens of `text`, cut or padded to `length`. What is cut off lies before the end, which stays.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn padded(&self, text: &str, length: usize) -> Result<Tokens> {
        let mut ids = self.ids(text)?;
        if ids.len() > length && length > 0 {
            ids.truncate(length - 1);
            ids.push(self.end);
        }
        let tokens = ids.len();
        ids.resize(length, self.padding);
        Ok(Tokens { ids, length: tokens.min(length) })
    }
}

fn wrong(path: &Path, what: impl Into<String>) -> Error {
    Error::Weights { path: path.to_path_buf(), what: what.into() }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

/// The tokens that files beside `spiece.model` add to its vocabulary of `known` pieces, in the order of their numbers.
fn added_tokens(spiece: &Path, known: usize) -> Result<Vec<String>> {
    let beside = |name: &str| -> Result<Option<Value>> {
        let path: PathBuf = spiece.with_file_name(name);
        if !path.is_file() {
            return Ok(None);
        }
        serde_json::from_slice(&read(&path)?).map(Some).map_err(|e| wrong(&path, format!("is no JSON: {e}")))
    };
    let mut added = Vec::new();
    if let Some(Value::Object(tokens)) = beside("added_tokens.json")? {
        let mut numbered: Vec<(u64, String)> = tokens.into_iter().filter_map(|(token, id)| Some((id.as_u64()?, token))).collect();
        numbered.sort();
        added.extend(numbered.into_iter().filter(|(id, _)| *id >= known as u64).map(|(_, token)| token));
    } else if let Some(config) = beside("tokenizer_config.json")? {
        // T5 numbers its extra tokens backwards. None are made where the file does not ask for them.
        const MOST: u64 = 1000;
        let extra = config.get("extra_ids").and_then(Value::as_u64).unwrap_or(0).min(MOST);
        added.extend((0..extra).rev().map(|n| format!("<extra_id_{n}>")));
    }
    Ok(added)
}
