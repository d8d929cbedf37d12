//! Cleans captions in the same way as the text-to-video model's training captions.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::{html, mojibake};

/// Longer texts are cut first: they have far more tokens than an encoder reads.
const MAX_CHARACTERS: usize = 16_384;

/// Cleans a caption as the reference does by default, twice. This lowercases letters and removes addresses, markup, nicknames,
/// Chinese characters (a prompt in Chinese becomes empty), article numbers, file names, and much punctuation.
///
/// On random captions with markup, addresses and mojibake the result agrees with the reference. It differs where combining marks
/// and superscripts meet punctuation, because Python's word boundaries differ there, and for mojibake that `mojibake.rs` does not
/// repair.
pub fn clean_caption(text: &str) -> String {
    clean(&clean(shortened(text)))
}

/// The part of the text that is read.
pub(super) fn shortened(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_CHARACTERS).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// Whether the text is longer than the part that is read.
pub(super) fn is_shortened(text: &str) -> bool {
    shortened(text).len() < text.len()
}

/// The words of `text` that are not in `cleaned`, in lower case, in their order.
pub(super) fn removed_words(text: &str, cleaned: &str) -> Vec<String> {
    let words = |text: &str| -> Vec<String> {
        let lowered = text.to_lowercase();
        lowered.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(String::from).collect()
    };
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    for word in words(cleaned) {
        *left.entry(word).or_default() += 1;
    }
    let mut removed = Vec::new();
    for word in words(text) {
        match left.get_mut(&word) {
            Some(count) if *count > 0 => *count -= 1,
            _ => removed.push(word),
        }
    }
    removed
}

/// Patterns in the order in which they run, each with its replacement. In Python's regular expressions `\w` is letters, numbers and
/// `_`, so it is written out here.
type Step = (&'static str, &'static str);

/// Addresses. Only the groups `scheme` and `host` are removed: a host that is followed by `@` is not an address, and the character
/// after a host does not belong to it.
const ADDRESSES: [&str; 2] = [
    r"(?s)\b(?:(?P<scheme>https?:(?:/{1,3}|[a-zA-Z0-9%]))|(?P<host>[a-zA-Z0-9.\-]+\.(?:com|co|ru|net|org|edu|gov|it)[\p{L}\p{N}_/\-]*\b/?)(?:[^@]|\z))",
    r"(?s)\b(?:(?P<scheme>www:(?:/{1,3}|[a-zA-Z0-9%]))|(?P<host>[a-zA-Z0-9.\-]+\.(?:com|co|ru|net|org|edu|gov|it)[\p{L}\p{N}_/\-]*\b/?)(?:[^@]|\z))",
];

/// The patterns that run after the removal of markup and before the mojibake repair.
const BEFORE_MENDING: [Step; 17] = [
    (r"@[\p{L}\p{N}_]+\b", ""), // nicknames
    // Strokes, phonetic extensions, enclosed letters, compatibility, hexagrams and ideographs.
    (r"[\u{31c0}-\u{4dbf}\u{4dc0}-\u{9fff}]+", ""),
    (
        r"[\-\u{58a}\u{5be}\u{1400}\u{1806}\u{2010}-\u{2015}\u{2e17}\u{2e1a}\u{2e3a}\u{2e3b}\u{2e40}\u{301c}\u{3030}\u{30a0}\u{fe31}\u{fe32}\u{fe58}\u{fe63}\u{ff0d}]+",
        "-",
    ),
    (r"[`´«»“”¨]", "\""),
    (r"[‘’]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "), // IP addresses
    (r"\d:\d\d\s+\z", ""),                        // article numbers
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (r"\S+\.(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)", ""),
    (r#"["']{2,}"#, "\""),
    (r"\.{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
];

const LONELY_DOT: [Step; 1] = [(r"\s+\.\s+", " ")];

const AFTER_MENDING: [Step; 17] = [
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""), // article numbers
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s[\p{L}\p{N}_]+", ""),
    (r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""), // sizes; the second is Cyrillic
    (r"([\p{L}\p{N}_])\s+:\s+", "$1: "),
    (r"(\D[,./])\b", "$1 "),
    (r"\s+", " "),
    (r#"(?s)\A["'](.+)["']\z"#, "$1"),
    (r"\A['_,\-:;]", ""),
    (r"['_,\-:+]\z", ""),
    (r"\A\.\S+\z", ""),
];

static RULES: LazyLock<Rules> = LazyLock::new(Rules::new);

struct Rules {
    addresses: Vec<Regex>,
    before_mending: Vec<(Regex, &'static str)>,
    lonely_dot: Vec<(Regex, &'static str)>,
    after_mending: Vec<(Regex, &'static str)>,
}

impl Rules {
    /// An invalid pattern would be skipped; a test checks that all are valid.
    fn new() -> Self {
        let compile =
            |steps: &[Step]| steps.iter().filter_map(|&(pattern, with)| Some((Regex::new(pattern).ok()?, with))).collect();
        Self {
            addresses: ADDRESSES.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect(),
            before_mending: compile(&BEFORE_MENDING),
            lonely_dot: compile(&LONELY_DOT),
            after_mending: compile(&AFTER_MENDING),
        }
    }
}

/// One pass of the reference's cleaning.
fn clean(text: &str) -> String {
    let rules = &*RULES;
    let mut text = unquote(text).trim().to_lowercase().replace("<person>", "person");
    for pattern in &rules.addresses {
        text = without_addresses(&text, pattern);
    }
    text = run(&rules.before_mending, html::text_of(&text));
    text = run(&rules.lonely_dot, text);
    if text.matches(['-', '_']).count() > 3 {
        text = text.replace(['-', '_'], " ");
    }
    text = html::unescape(&html::unescape(&mojibake::repair(&text)));
    run(&rules.after_mending, text).trim().to_string()
}

fn run(steps: &[(Regex, &'static str)], text: String) -> String {
    steps.iter().fold(text, |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// Removes the groups `scheme` and `host` of each match from the text.
fn without_addresses(text: &str, pattern: &Regex) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut at = 0;
    let address = |found: Captures<'_>| found.name("scheme").or_else(|| found.name("host")).map(|group| group.range());
    while let Some(range) = pattern.captures_at(text, at).and_then(address) {
        kept.push_str(&text[at..range.start]);
        at = range.end;
    }
    kept.push_str(&text[at..]);
    kept
}

/// Decodes URLs: `+` becomes a space and `%41` the byte 0x41; bytes that are not UTF-8 become U+FFFD.
fn unquote(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn all_patterns_are_patterns() {
        let rules = &*RULES;
        assert_eq!(rules.addresses.len(), ADDRESSES.len());
        assert_eq!(rules.before_mending.len(), BEFORE_MENDING.len());
        assert_eq!(rules.lonely_dot.len(), LONELY_DOT.len());
        assert_eq!(rules.after_mending.len(), AFTER_MENDING.len());
    }

    #[test]
    fn captions_are_cleaned_as_the_reference_does() {
        // Expected: the caption cleaning of diffusers' `LattePipeline`, with ftfy 6.3.1 and BeautifulSoup 4.15.
        for (text, expected) in [
            (
                "A dog in astronaut suit and sunglasses floating in space.",
                "a dog in astronaut suit and sunglasses floating in space.",
            ),
            ("Yellow and black tropical fish dart through the sea.", "yellow and black tropical fish dart through the sea."),
            ("", ""),
            ("Visit https://www.example.com/path?x=1 for MORE!", "visit ?x=1 for more!"),
            ("mail me@foo.com now", "mail me now"),
            ("see foo.com/abc@x and bar.org/", "see abc and"),
            ("a <b>bold</b> <person> with a hat", "a bold person with a hat"),
            ("@nick_name says hi", "says hi"),
            ("一只猫 a cat 在草地", "a cat"),
            ("dash – em — dash", "dash - em - dash"),
            ("“curly” ‘quotes’ «french»", "curly\" 'quotes' \"french"),
            ("fish &amp; chips &quot;yes&quot;", "fish chips \"yes\""),
            ("ip 192.168.0.1 here", "ip here"),
            ("ends 1:23 ", "ends 1:23"),
            ("line\\nbreak", "line break"),
            ("#12 #1234 #12345 1234567", "1234"),
            ("photo IMG_2033.jpg of a cat", "photo of a cat"),
            ("\"\"\"AUSVERKAUFT\"\"\"", "ausverkauft"),
            ("wait... what..", "wait what"),
            ("***SALE*** (now) [really]", "sale now really"),
            ("a . b . c", "a b c"),
            ("this-is-my-cute-cat", "this is my cute cat"),
            ("this_is_my_cute_cat", "this is my cute cat"),
            ("one-two-three", "one-two-three"),
            ("jc6640 jc6640vc 6640vc231", ""),
            ("free shipping worldwide free shipping", ""),
            ("free download free", ""),
            ("click for more", ""),
            ("click on it now", "now"),
            ("png image jpg images", ""),
            ("page 12", ""),
            ("j2d1a2a", ""),
            ("size 10x20 and 3.5×4", "size and"),
            ("word : other", "word: other"),
            ("a,b.c/d", "a, b. c d"),
            ("'quoted'", "quoted"),
            ("_-,start", ", start"),
            ("end-", "end"),
            (".hidden", ""),
            ("schön café naïve", "schön café naïve"),
            ("½ cup", "cup"),
            ("â€œmoji", "\"moji"),
            ("ﬁne ﬁsh", "fine fish"),
            ("ＦＵＬＬ width", "full width"),
            ("100% sure", "100% sure"),
            ("50%25 off%20now", "50% off now"),
            ("a+b", "a b"),
            ("%C3%A9t%C3%A9 %FF", "été �"),
            ("http://a.b", "a. b"),
            ("The 3 birds, CLOSE-UP!! at (dawn)", "the 3 birds, close-up!! at dawn"),
            ("Émile Zolà", "émile zolà"),
            ("İstanbul", "i\u{307}stanbul"),
            ("x\ty\n z", "x y z"),
            ("a  b   c", "a b c"),
            ("it’s 5 o’clock", "it's 5 o'clock"),
            ("№ 5 €20 £3", "№ 5 €20 £3"),
            ("🙂 smile 👩\u{200d}🚀", "🙂 smile 👩\u{200d}🚀"),
            ("ÅNGSTRÖM", "ångström"),
            ("u.s.a. today", "u. s. a. today"),
            ("e.g.,this", "e. g., this"),
            ("10,000 people", "10,000 people"),
            ("3.14 pi", "3.14 pi"),
        ] {
            assert_eq!(clean_caption(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_far_too_long_is_cut_between_characters() {
        let text = "é ".repeat(MAX_CHARACTERS);
        assert_eq!(shortened(&text).chars().count(), MAX_CHARACTERS);
        assert_eq!(shortened("é"), "é");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in any::<String>()) {
            let _ = clean_caption(&text);
        }

        #[test]
        fn words_stay(text in "[a-z]{2,8}( [a-z]{2,8}){0,5}") {
            prop_assume!(!["shipping", "download", "click", "png", "jpg", "jpeg", "bmp", "webp", "eps", "pdf", "apk"].iter().any(|word| text.contains(word)));
            prop_assert_eq!(clean_caption(&text), text);
        }
    }
}
