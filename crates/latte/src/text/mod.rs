//! Prompts to what the text-to-video transformer reads. Shape letters: `b` batch, `l` text length, `d` values of a token.

pub mod clean;
mod encoder;
mod spiece;
mod t5;
mod tokenizer;

pub use encoder::{EncodedText, MAX_LENGTH, PromptPair, TextEncoder};
pub use spiece::SentencePieceModel;
pub use t5::{T5Config, T5Encoder};
pub use tokenizer::{Tokenizer, Tokens};
