//! Encodes prompts for the text-to-video transformer. Shape letters: `b` batch, `l` text length, `d` values of a token.

mod charsmap;
mod clean;
mod encoder;
mod html;
mod mojibake;
mod reading;
mod sentencepiece;
mod t5;
mod tokenizer;

pub use clean::clean_caption;
pub use encoder::{EncodedText, MAX_LENGTH, PromptPair, TextEncoder};
pub use reading::Reading;
pub use t5::{T5Config, T5Encoder};
pub use tokenizer::{Tokenizer, Tokens};
