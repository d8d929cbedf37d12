//! Cleaning of prompts, as the captions were cleaned that text-to-video models were trained on (DeepFloyd IF's rules, which PixArt and
//! Latte took over).
//!
//! The rules remove what web captions are full of: addresses, tags, file names, codes, advertising. They also remove Chinese
//! characters, so that a Chinese prompt becomes empty: the models know no Chinese.
//!
//! The reference repairs text with the library ftfy. Here its commonest repairs are done: entities, curly quotes, ligatures, full-width
//! forms, control characters, and UTF-8 that was read as Windows-1252 all through a text. Text that is broken in
//! parts is left as it is.

use std::sync::LazyLock;

use regex::Regex;

/// Cleans a prompt. As in the reference the rules run twice, since removing something may bring other things together.
pub fn clean_caption(text: &str) -> String {
    clean_once(&clean_once(text)).trim().to_string()
}

/// A pattern and what replaces it.
struct Rule {
    pattern: Regex,
    replacement: &'static str,
}

/// Compiles rules. The patterns are part of the program and are all compiled by a test; one that does not compile is left out.
fn rules(list: &[(&str, &'static str)]) -> Vec<Rule> {
    list.iter().filter_map(|(pattern, replacement)| Some(Rule { pattern: Regex::new(pattern).ok()?, replacement })).collect()
}

fn apply(text: &str, rules: &[Rule]) -> String {
    rules.iter().fold(text.to_string(), |text, rule| rule.pattern.replace_all(&text, rule.replacement).into_owned())
}

const FILE_TYPES: &str = "(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)";

/// Web addresses. One that ends before an `@` is the name in a mail address, and stays.
const ADDRESSES: [&str; 2] = [
    r"\b(?:https?:(?:/{1,3}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/\-]*\b/?)",
    r"\b(?:www:(?:/{1,3}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/\-]*\b/?)",
];

const BEFORE_REPAIR: &[(&str, &str)] = &[
    // Names of people.
    (r"@\w+\b", ""),
    // Blocks of Chinese, Japanese and Korean characters.
    ("[\u{31C0}-\u{31EF}]+", ""),
    ("[\u{31F0}-\u{31FF}]+", ""),
    ("[\u{3200}-\u{32FF}]+", ""),
    ("[\u{3300}-\u{33FF}]+", ""),
    ("[\u{3400}-\u{4DBF}]+", ""),
    ("[\u{4DC0}-\u{4DFF}]+", ""),
    ("[\u{4E00}-\u{9FFF}]+", ""),
    // All kinds of dashes, then of quotes.
    (
        "[\u{2D}\u{58A}\u{5BE}\u{1400}\u{1806}\u{2010}-\u{2015}\u{2E17}\u{2E1A}\u{2E3A}\u{2E3B}\u{2E40}\u{301C}\u{3030}\u{30A0}\u{FE31}\u{FE32}\u{FE58}\u{FE63}\u{FF0D}]+",
        "-",
    ),
    ("[`´«»“”¨]", "\""),
    ("[‘’]", "'"),
    ("&quot;?", ""),
    ("&amp", ""),
    // Addresses of machines, numbers of articles, line breaks that were written out.
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),
    (r"\d:\d\d\s+$", ""),
    (r"\\n", " "),
    // Numbers behind #, and long numbers.
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
];

const PUNCTUATION: &[(&str, &str)] =
    &[("[\"']{2,}", "\""), (r"[.]{2,}", " "), (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "), (r"\s+\.\s+", " ")];

const AFTER_REPAIR: &[(&str, &str)] = &[
    // Codes of letters and digits.
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),
    (r"\b\d+[a-zA-Z]+\d+\b", ""),
    // What shops write.
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (r"\b(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    // Sizes: 300x400, also with the Cyrillic letter.
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),
    // Spaces.
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", "$1 "),
    (r"\s+", " "),
];

const EDGES: &[(&str, &str)] = &[(r#"(?s)^["'](.+)["']$"#, "$1"), (r"^['_,\-:;]", ""), (r"['_,\-:+]$", ""), (r"^\.\S+$", "")];

fn clean_once(text: &str) -> String {
    static ADDRESS: LazyLock<Vec<Regex>> = LazyLock::new(|| ADDRESSES.iter().filter_map(|p| Regex::new(p).ok()).collect());
    static BEFORE: LazyLock<Vec<Rule>> = LazyLock::new(|| rules(BEFORE_REPAIR));
    static FILES: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!(r"\S+\.{FILE_TYPES}")).ok());
    static MARKS: LazyLock<Vec<Rule>> = LazyLock::new(|| rules(PUNCTUATION));
    static AFTER: LazyLock<Vec<Rule>> = LazyLock::new(|| rules(AFTER_REPAIR));
    static ENDS: LazyLock<Vec<Rule>> = LazyLock::new(|| rules(EDGES));

    let mut text = decode_percent(text).trim().to_lowercase().replace("<person>", "person");
    for address in ADDRESS.iter() {
        text = remove_addresses(&text, address);
    }
    text = unescape(&strip_tags(&text));
    text = apply(&text, &BEFORE);
    if let Some(files) = FILES.as_ref() {
        text = files.replace_all(&text, "").into_owned();
    }
    text = apply(&text, &MARKS);
    if text.chars().filter(|c| matches!(c, '-' | '_')).count() > 3 {
        text = text.replace(['-', '_'], " ");
    }
    text = unescape(&unescape(&repair(&text)));
    // Reference quirk: spaces at the ends are still there, and keep the last rules from what stands beside them.
    apply(&apply(&text, &AFTER), &ENDS).trim().to_string()
}

/// `%20` and `+` of addresses.
fn decode_percent(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let digits = bytes.get(i + 1..i + 3).and_then(|d| std::str::from_utf8(d).ok());
        let decoded = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|d| u8::from_str_radix(d, 16).ok());
        match (bytes[i], decoded) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn remove_addresses(text: &str, pattern: &Regex) -> String {
    let (mut out, mut last) = (String::with_capacity(text.len()), 0);
    for found in pattern.find_iter(text) {
        if !text[found.end()..].starts_with('@') {
            out.push_str(&text[last..found.start()]);
            last = found.end();
        }
    }
    out + &text[last..]
}

/// The text of HTML without its tags.
fn strip_tags(text: &str) -> String {
    static TAG: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?s)<!--.*?-->|</?[a-zA-Z!?][^>]*>").ok());
    TAG.as_ref().map_or_else(|| text.to_string(), |tag| tag.replace_all(text, "").into_owned())
}

/// Entities by name that captions have; those by number are all known.
const ENTITIES: &[(&str, &str)] = &[
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", "\u{A0}"),
    ("copy", "©"),
    ("reg", "®"),
    ("trade", "™"),
    ("hellip", "…"),
    ("mdash", "—"),
    ("ndash", "–"),
    ("lsquo", "‘"),
    ("rsquo", "’"),
    ("ldquo", "“"),
    ("rdquo", "”"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("bull", "•"),
    ("middot", "·"),
    ("deg", "°"),
    ("times", "×"),
    ("frac12", "½"),
    ("frac14", "¼"),
    ("eacute", "é"),
    ("egrave", "è"),
    ("agrave", "à"),
    ("ccedil", "ç"),
    ("auml", "ä"),
    ("ouml", "ö"),
    ("uuml", "ü"),
    ("szlig", "ß"),
    ("ntilde", "ñ"),
    ("euro", "€"),
    ("pound", "£"),
];

/// `&eacute;` and `&#233;` to the characters that they stand for.
fn unescape(text: &str) -> String {
    static ENTITY: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z0-9]{2,8});").ok());
    let Some(entity) = ENTITY.as_ref() else { return text.to_string() };
    entity
        .replace_all(text, |found: &regex::Captures<'_>| {
            let name = &found[1];
            let number = match name.strip_prefix('#') {
                Some(n) if n.starts_with(['x', 'X']) => u32::from_str_radix(&n[1..], 16).ok(),
                Some(n) => n.parse().ok(),
                None => None,
            };
            match (number.and_then(char::from_u32), ENTITIES.iter().find(|(known, _)| *known == name)) {
                (Some(character), _) => character.to_string(),
                (None, Some((_, character))) => (*character).to_string(),
                (None, None) => found[0].to_string(),
            }
        })
        .into_owned()
}

/// The commonest repairs of broken text.
fn repair(text: &str) -> String {
    let text = reread(text).unwrap_or_else(|| text.to_string());
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{2018}'..='\u{201B}' | '\u{2BC}' => out.push('\''),
            '\u{201C}'..='\u{201F}' => out.push('"'),
            'ﬀ' => out.push_str("ff"),
            'ﬁ' => out.push_str("fi"),
            'ﬂ' => out.push_str("fl"),
            'ﬃ' => out.push_str("ffi"),
            'ﬄ' => out.push_str("ffl"),
            'ﬅ' | 'ﬆ' => out.push_str("st"),
            // Full-width forms of ASCII, and the ideographic space.
            '\u{FF01}'..='\u{FF5E}' => out.extend(char::from_u32(c as u32 - 0xFEE0)),
            '\u{3000}' => out.push(' '),
            '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' => out.push('\n'),
            '\t' | '\n' => out.push(c),
            '\u{FEFF}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' => {}
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// What Windows-1252 has where Latin-1 has control characters, from 0x80 on; 0 where it has nothing.
const WINDOWS_1252: [u16; 32] = [
    0x20AC, 0, 0x201A, 0x192, 0x201E, 0x2026, 0x2020, 0x2021, 0x2C6, 0x2030, 0x160, 0x2039, 0x152, 0, 0x17D, 0, 0, 0x2018,
    0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x2DC, 0x2122, 0x161, 0x203A, 0x153, 0, 0x17E, 0x178,
];

/// UTF-8 that was read as Windows-1252, read again; `None` if the text is nothing of the kind.
fn reread(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let byte = |c: char| match c as u32 {
        code @ (0..0x80 | 0xA0..0x100) => Some(code as u8),
        code => WINDOWS_1252.iter().position(|&w| w != 0 && u32::from(w) == code).map(|i| 0x80 + i as u8),
    };
    let bytes = text.chars().map(byte).collect::<Option<Vec<u8>>>()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_patterns_compile() {
        for list in [BEFORE_REPAIR, PUNCTUATION, AFTER_REPAIR, EDGES] {
            assert_eq!(rules(list).len(), list.len());
        }
        assert!(ADDRESSES.iter().all(|p| Regex::new(p).is_ok()));
    }

    #[test]
    fn captions_are_cleaned_as_the_reference_cleans_them() {
        // Expected: the output of diffusers 0.42's pipeline for the same text.
        for (text, expected) in CASES {
            assert_eq!(clean_caption(text), *expected, "{text}");
        }
    }

    const CASES: &[(&str, &str)] = &[
        ("A Dog in astronaut suit.", "a dog in astronaut suit."),
        ("Yellow &amp; black tropical fish", "yellow black tropical fish"),
        ("see https://example.com/a/b?c=1 now", "see ?c=1 now"),
        ("visit www.shop.co/x or mail me@site.com", "visit or mail me"),
        ("<b>bold</b> <person> walks", "bold person walks"),
        ("photo by @some_user on the beach", "photo by on the beach"),
        ("一只猫 cat 日本", "cat"),
        ("dash — en – minus", "dash - en - minus"),
        ("“quoted” ‘text’ «x»", "quoted\" 'text' \"x"),
        ("IMG_1234.jpg a cat", "a cat"),
        ("server at 192.168.1.10 down", "server at down"),
        ("Lot #123 and #123456 and 1234567", "lot and and"),
        ("a -- b -- c_d", "a - b - c_d"),
        ("wow!!! (really) [yes] {no}", "wow!!! really yes no"),
        ("Free shipping worldwide", "worldwide"),
        ("free download now", "now"),
        ("click for more", ""),
        ("png images of cats", "of cats"),
        ("page 12 of", "of"),
        ("ab1234 code a1b 12ab34", "code"),
        ("300x400 photo", "photo"),
        ("word : other", "word: other"),
        ("one,two.three/four", "one, two. three four"),
        ("caf&eacute; &quot;x&quot;", "café \"x\""),
        ("  \"hello world\"  ", "hello world"),
        ("-leading and trailing-", "leading and trailing"),
        ("a   b\n c\\nd", "a b c d"),
        ("cafÃ© olÃ©", "cafã olã"),
        ("ﬁne ﬂow", "fine flow"),
        ("ＦＵＬＬ width", "full width"),
        ("a.b ... c", "a. b c"),
        ("50% off a+b", "50% off a b"),
        ("it's 3:45 ", "it's 3:45"),
        ("hello . world", "hello world"),
        ("½ cup ™", "cup"),
        ("...start", "start"),
        (".hidden", ""),
        ("sunset, over the sea.", "sunset, over the sea."),
        ("8k uhd, 4k", "8k uhd, 4k"),
        ("a man's dog's ball", "a man's dog's ball"),
        ("multi-word-hyphen-ated-text here", "multi word hyphen ated text here"),
        ("x<y and y>z", "xz"),
        ("emoji 😀 smile", "emoji 😀 smile"),
        ("The quick: brown; fox", "the quick: brown; fox"),
        ("10.5x20 cm", "10. cm"),
        ("AT&T store", "at t store"),
        ("http://t.co/abc", ""),
        ("e.g. this i.e. that", "e. g. this i. e. that"),
        ("U.S.A. flag", "u. s. a. flag"),
        ("Dr. Smith's 2nd car", "dr. smith's 2nd car"),
        ("photo.jpg - &amp; ' . cat : ab123", "' cat"),
        ("#12 100% , — download", "100% ,"),
        ("“q” 中文 running ' @me — photo.jpg", "\"q\" running '"),
        ("— 30x40 free 3 ' - 30x40 @me", "free 3 '"),
        ("! — , shipping @me", "! -"),
        ("shipping — — 中文 中文 https://x.com <i>x</i>", "- x"),
        ("(nice) : @me — 1234567 - — ab123", "nice: - -"),
        ("3 . . ' : , ab123 #12", "3 ' :"),
        (": sky. ½ - : ½", "sky. -"),
        ("ab123 a ' _ &amp; &amp; https://x.com", "a '"),
    ];

    #[test]
    fn any_text_is_cleaned_without_a_panic() {
        for text in ["", "%", "%zz%4", "&#xFFFFFF;", "&#99999999;", "日本語", "<", "@", "\u{0}\u{FEFF}", "a@b.com x.com@y"] {
            clean_caption(text);
        }
    }
}
