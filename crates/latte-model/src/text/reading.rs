//! Reports which part of a text the network reads, and which part is left out.

use super::clean::{clean_caption, is_shortened, removed_words, shortened};
use super::encoder::MAX_LENGTH;
use super::tokenizer::{Tokenizer, Tokens};
use crate::Result;

/// The number of characters of a text that a message quotes.
const QUOTED: usize = 60;
/// The number of pieces that a message lists.
const LISTED: usize = 8;

/// A text as the network reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The token ids, cut and padded.
    pub tokens: Tokens,
    /// The text that was tokenised: cleaned, if cleaning was asked for.
    pub text: String,
    /// The part of the text that was cut off; `None` if there is none.
    pub rest: Option<String>,
    /// Parts of the text without a token: the network gets the unknown token instead.
    pub unknown: Vec<String>,
    /// Words that cleaning removed.
    pub removed: Vec<String>,
    /// Whether cleaning removed everything from a text that was not empty.
    pub emptied: bool,
    /// Whether the text was cut before tokenising, because it is longer than any text that can be read.
    pub shortened: bool,
}

impl Tokenizer {
    /// Reads a text as the encoder does: cleaned ([`clean_caption`]) if `clean` is set, and at most [`MAX_LENGTH`] tokens.
    ///
    /// # Errors
    ///
    /// Those of [`Tokenizer::encode`].
    pub fn read(&self, text: &str, clean: bool) -> Result<Reading> {
        let looked_at = if clean { clean_caption(text) } else { shortened(text).to_string() };
        let tokens = self.encode(&looked_at, MAX_LENGTH)?;
        let places = self.places(&looked_at)?;
        // The end-of-text token takes the last position.
        let cut_at = places.pieces.get(MAX_LENGTH - 1).filter(|_| tokens.cut > 0).map(|piece| piece.start);
        let rest = cut_at.map(|at| looked_at.get(at..).unwrap_or_default().trim().to_string());
        // Unknown parts that are cut off are reported as cut off only.
        let is_read = |start: usize| cut_at.is_none_or(|at| start < at);
        let unknown = places.unknown.into_iter().filter(|place| is_read(place.start));
        let unknown = unknown.map(|place| looked_at.get(place).unwrap_or_default().trim().to_string()).collect();
        let removed = if clean { removed_words(shortened(text), &looked_at) } else { Vec::new() };
        let emptied = looked_at.trim().is_empty() && !text.trim().is_empty();
        Ok(Reading { tokens, rest, unknown, removed, emptied, shortened: is_shortened(text), text: looked_at })
    }
}

impl Reading {
    /// A sentence for each part of the text that is left out; empty if the network reads all of it.
    pub fn left_out(&self) -> Vec<String> {
        let mut messages = Vec::new();
        if self.emptied {
            messages.push(
                "cleaning leaves nothing of the text, so the model reads an empty one (--no-clean-caption keeps the words)"
                    .into(),
            );
        } else if !self.removed.is_empty() {
            messages.push(format!("cleaning takes out {} (--no-clean-caption keeps it)", listed(&self.removed)));
        }
        if !self.unknown.is_empty() {
            messages.push(format!("the tokenizer does not know {}", listed(&self.unknown)));
        }
        if let Some(rest) = &self.rest {
            let more = if self.shortened { "more than " } else { "" };
            let read = self.tokens.length;
            let all = read + self.tokens.cut;
            messages.push(format!("it has {more}{all} tokens, and {read} are read; it is cut before {}", quoted(rest)));
        }
        messages
    }
}

fn listed(parts: &[String]) -> String {
    let mut different: Vec<&String> = Vec::new();
    for part in parts {
        if !different.contains(&part) {
            different.push(part);
        }
    }
    let more = if different.len() > LISTED { format!(" and {} more", different.len() - LISTED) } else { String::new() };
    let first: Vec<String> = different.into_iter().take(LISTED).map(|part| quoted(part)).collect();
    first.join(", ") + &more
}

/// The text in quotes and on one line, shortened if it is long. Control characters of terminals are escaped.
fn quoted(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let beginning: String = line.chars().take(QUOTED).collect();
    let end = if beginning.len() < line.len() { "…" } else { "" };
    let shown: String =
        beginning.chars().map(|c| if c.is_control() { c.escape_unicode().to_string() } else { c.to_string() }).collect();
    format!("\"{shown}{end}\"")
}
