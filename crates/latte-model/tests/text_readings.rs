//! Reports of the part of a text that the network reads and of the rest, with both files of a tokenizer.

use std::path::Path;

use latte_model::Result;
use latte_model::text::{MAX_LENGTH, Tokenizer};
use proptest::prelude::*;

fn tokenizers() -> Result<[Tokenizer; 2]> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden/tiny-latte-t2v/tokenizer");
    Ok([Tokenizer::from_json(&folder)?, Tokenizer::from_sentencepiece(&folder)?])
}

#[test]
fn a_text_that_is_read_whole_gives_no_report() -> Result<()> {
    for tokenizer in tokenizers()? {
        for text in ["", "  ", "a cat", "A dog, running in the sea."] {
            let reading = tokenizer.read(text, true)?;
            assert_eq!(reading.left_out(), Vec::<String>::new(), "{text}: {reading:?}");
        }
    }
    Ok(())
}

#[test]
fn a_long_text_is_reported_with_the_place_of_the_cut() -> Result<()> {
    for tokenizer in tokenizers()? {
        let text = "a cat ".repeat(200);
        let reading = tokenizer.read(&text, true)?;
        let [told] = reading.left_out().try_into().unwrap_or_else(|told| panic!("{told:?}"));
        let all = tokenizer.ids(text.trim())?.len();
        assert!(told.starts_with(&format!("it has {all} tokens, and {MAX_LENGTH} are read; it is cut before \"")), "{told}");
        assert!(told.ends_with("…\""), "{told}");
        let rest = reading.rest.unwrap_or_default();
        // The part that is read and the rest make up the whole text.
        let read = text.trim().strip_suffix(&rest).unwrap_or_else(|| panic!("{rest}")).trim();
        assert_eq!(tokenizer.ids(read)?.len(), MAX_LENGTH);
        // Too long to be read whole.
        let told = tokenizer.read(&text.repeat(100), true)?.left_out();
        assert!(told[0].starts_with("it has more than "), "{told:?}");
    }
    Ok(())
}

#[test]
fn losses_by_cleaning_and_by_the_tokenizer_are_reported() -> Result<()> {
    for tokenizer in tokenizers()? {
        let told = |text: &str, clean| tokenizer.read(text, clean).map(|reading| reading.left_out().join("; "));
        let empty = told("一只猫在跳舞", true)?;
        assert!(empty.contains("leaves nothing") && empty.contains("--no-clean-caption"), "{empty}");
        assert!(told("!!!", true)?.is_empty() || told("!!!", true)?.contains("leaves nothing"));
        let part = told("a cat 一只猫 photo.png", true)?;
        assert!(part.contains("takes out \"一只猫\"") && part.contains("\"png\"") && !part.contains("cat\""), "{part}");
        let unknown = told("a cat 一只猫", false)?;
        assert!(unknown.contains("does not know") && unknown.contains('猫'), "{unknown}");
        assert!(told("a\u{1b}[2J cat \u{2603}", false)?.contains('\u{2603}'));
        assert!(!told("\u{1b}[2J\u{2603}", false)?.contains('\u{1b}'), "nothing that a terminal obeys");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Every part that is left out is reported.
    #[test]
    fn every_part_that_is_left_out_is_reported(words in prop::collection::vec("[a-z]{1,6}|[A-Z]{2}|\\PC{1,3}|一只猫|[0-9.,!]{1,4}", 0..160), clean: bool) {
        let text = words.join(" ");
        for tokenizer in tokenizers().unwrap_or_else(|e| panic!("{e}")) {
            let reading = tokenizer.read(&text, clean).unwrap_or_else(|e| panic!("{e}"));
            let told = reading.left_out();
            let ids = tokenizer.ids(&reading.text).unwrap_or_else(|e| panic!("{e}"));
            prop_assert_eq!(ids.len() > MAX_LENGTH, reading.rest.is_some());
            prop_assert_eq!(ids.len() > MAX_LENGTH, told.iter().any(|line| line.contains("is cut before")));
            let read = &reading.tokens.ids[..reading.tokens.length];
            let unknown = read.contains(&2);
            prop_assert_eq!(unknown, told.iter().any(|line| line.contains("does not know")), "{:?}", &reading);
            prop_assert!(!clean || text.is_empty() || !reading.text.is_empty() || told.iter().any(|line| line.contains("nothing")));
            prop_assert!(told.iter().all(|line| !line.contains(char::is_control)), "{:?}", told);
        }
    }
}
