//! Extracts text from HTML: removes tags and replaces entities.
//!
//! Captions come from web pages. The reference reads them with the Python library BeautifulSoup; this module gives the same results
//! for text that is mostly not HTML. Supported entities are those of HTML 4 (252 names) and numbers; HTML 5 has two thousand more,
//! which are rare.

use std::sync::LazyLock;

use regex::{Captures, Regex};

/// The names of U+00A0 to U+00FF, in order. Browsers accept these also without a semicolon.
const LATIN_1: &str = "\
    nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr deg plusmn sup2 sup3 acute micro \
    para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil \
    Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave \
    Uacute Ucirc Uuml Yacute THORN szlig agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml \
    igrave iacute icirc iuml eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute \
    thorn yuml";

/// The other names of HTML 4, each with its code.
const OTHERS: &str = "\
    quot 34 amp 38 lt 60 gt 62 OElig 338 oelig 339 Scaron 352 scaron 353 Yuml 376 fnof 402 circ 710 tilde 732 Alpha 913 \
    Beta 914 Gamma 915 Delta 916 Epsilon 917 Zeta 918 Eta 919 Theta 920 Iota 921 Kappa 922 Lambda 923 Mu 924 Nu 925 Xi 926 \
    Omicron 927 Pi 928 Rho 929 Sigma 931 Tau 932 Upsilon 933 Phi 934 Chi 935 Psi 936 Omega 937 alpha 945 beta 946 gamma \
    947 delta 948 epsilon 949 zeta 950 eta 951 theta 952 iota 953 kappa 954 lambda 955 mu 956 nu 957 xi 958 omicron 959 pi \
    960 rho 961 sigmaf 962 sigma 963 tau 964 upsilon 965 phi 966 chi 967 psi 968 omega 969 thetasym 977 upsih 978 piv 982 \
    ensp 8194 emsp 8195 thinsp 8201 zwnj 8204 zwj 8205 lrm 8206 rlm 8207 ndash 8211 mdash 8212 lsquo 8216 rsquo 8217 sbquo \
    8218 ldquo 8220 rdquo 8221 bdquo 8222 dagger 8224 Dagger 8225 bull 8226 hellip 8230 permil 8240 prime 8242 Prime 8243 \
    lsaquo 8249 rsaquo 8250 oline 8254 frasl 8260 euro 8364 image 8465 weierp 8472 real 8476 trade 8482 alefsym 8501 larr \
    8592 uarr 8593 rarr 8594 darr 8595 harr 8596 crarr 8629 lArr 8656 uArr 8657 rArr 8658 dArr 8659 hArr 8660 forall 8704 \
    part 8706 exist 8707 empty 8709 nabla 8711 isin 8712 notin 8713 ni 8715 prod 8719 sum 8721 minus 8722 lowast 8727 \
    radic 8730 prop 8733 infin 8734 ang 8736 and 8743 or 8744 cap 8745 cup 8746 int 8747 there4 8756 sim 8764 cong 8773 \
    asymp 8776 ne 8800 equiv 8801 le 8804 ge 8805 sub 8834 sup 8835 nsub 8836 sube 8838 supe 8839 oplus 8853 otimes 8855 \
    perp 8869 sdot 8901 lceil 8968 rceil 8969 lfloor 8970 rfloor 8971 lang 9001 rang 9002 loz 9674 spades 9824 clubs 9827 \
    hearts 9829 diams 9830";

/// The supported parts of HTML: whole elements without text, comments, declarations, instructions, tags. The groups match text that
/// begins like one of these and never ends, including its entities.
static MARKUP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let hidden = r"<script\b[^>]*>.*?(?:</script\s*>|\z)|<style\b[^>]*>.*?(?:</style\s*>|\z)";
    let comments = r"<!--.*?--\s*>|(?P<open_comment><!--(?:[^>]*>|[^<]*))|<[!?][^>]*>";
    let tags = r#"<[a-z](?:=\s*"[^"]*"|=\s*'[^']*'|[^>])*>|<[a-z][^>]*>|</[^>]*>"#;
    let open = "(?P<open><[a-z!?/][^<]*)";
    Regex::new(&format!("(?is){hidden}|{comments}|{tags}|{open}")).ok()
});

/// An entity: a number or a name, and its end.
static ENTITY: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"&(#[0-9]+|#[xX][0-9a-fA-F]+|[^\t\n\x0c <&#;]{1,32})(;?)").ok());

/// The text between the tags, with entities replaced.
pub(super) fn text_of(html: &str) -> String {
    let Some(markup) = &*MARKUP else { return html.to_string() };
    let mut text = String::with_capacity(html.len());
    let mut at = 0;
    for found in markup.captures_iter(html) {
        let Some(whole) = found.get(0) else { continue };
        text.push_str(&replace_entities(&html[at..whole.start()], Place::InHtml));
        at = whole.end();
        if let Some(literal) = found.name("open_comment").or_else(|| found.name("open")) {
            // Markup that never ends is kept as text up to the next tag; without a next tag, only its first character is kept.
            let ends_nowhere = at == html.len() && !literal.as_str().ends_with('>');
            at = if ends_nowhere { whole.start() + 1 } else { at };
            text.push_str(&html[whole.start()..at]);
        }
    }
    text.push_str(&replace_entities(&html[at..], Place::AtEndOfHtml));
    text
}

/// The text with entities replaced; unknown entities are unchanged.
pub(super) fn unescape(text: &str) -> String {
    replace_entities(text, Place::InText)
}

/// The context of entities: BeautifulSoup has quirks that `html.unescape` lacks.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    InText,
    /// An unknown name loses its semicolon.
    InHtml,
    /// In addition, an entity without a semicolon at the very end is not an entity.
    AtEndOfHtml,
}

fn replace_entities(text: &str, place: Place) -> String {
    let Some(entity) = &*ENTITY else { return text.to_string() };
    let replaced = entity.replace_all(text, |found: &Captures<'_>| {
        let (name, end) = (&found[1], &found[2]);
        if place == Place::AtEndOfHtml && end.is_empty() && found.get(0).is_some_and(|whole| whole.end() == text.len()) {
            return found[0].to_string();
        }
        let replacement = match name.strip_prefix('#') {
            Some(number) => Some(numbered(number)),
            None => character(name).filter(|_| end == ";").map(String::from).or_else(|| beginning(name).map(|text| text + end)),
        };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let otherwise = if place != Place::InText && is_name { format!("&{name}") } else { found[0].to_string() };
        replacement.unwrap_or(otherwise)
    });
    replaced.into_owned()
}

/// The character of a numeric entity, with HTML 5's rules for invalid numbers.
fn numbered(number: &str) -> String {
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    match code.unwrap_or(u32::MAX) {
        0 => "\u{fffd}".into(),
        0x0d => "\r".into(),
        code @ 0x80..=0x9f => char::from_u32(code).map(super::mojibake::second_block).map(String::from).unwrap_or_default(),
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => String::new(),
        code if code & 0xfffe == 0xfffe && code <= 0x10_ffff => String::new(),
        code => char::from_u32(code).unwrap_or('\u{fffd}').into(),
    }
}

/// The character of an entity's name.
fn character(name: &str) -> Option<char> {
    if let Some(c) = legacy(name) {
        return Some(c);
    }
    let mut words = OTHERS.split_ascii_whitespace();
    while let (Some(known), Some(code)) = (words.next(), words.next()) {
        if known == name {
            return code.parse().ok().and_then(char::from_u32);
        }
    }
    None
}

/// The character of a name that is valid without a semicolon.
fn legacy(name: &str) -> Option<char> {
    match name {
        "amp" | "AMP" => Some('&'),
        "lt" | "LT" => Some('<'),
        "gt" | "GT" => Some('>'),
        "quot" | "QUOT" => Some('"'),
        "COPY" => Some('©'),
        "REG" => Some('®'),
        _ => {
            LATIN_1.split_ascii_whitespace().position(|known| known == name).and_then(|index| char::from_u32(0xa0 + index as u32))
        }
    }
}

/// Replaces the longest name at the beginning of the text, if it is valid without a semicolon.
fn beginning(text: &str) -> Option<String> {
    let ends = text.char_indices().map(|(at, _)| at).skip(2).chain([text.len()]).collect::<Vec<_>>();
    ends.into_iter().rev().find_map(|end| legacy(&text[..end]).map(|c| format!("{c}{}", &text[end..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_sound_and_names_complete() {
        assert!(MARKUP.is_some() && ENTITY.is_some());
        assert_eq!(LATIN_1.split_ascii_whitespace().count(), 96);
        assert_eq!(OTHERS.split_ascii_whitespace().count(), 2 * 156);
    }

    #[test]
    fn entities_are_replaced_as_python_does() {
        // Expected: `html.unescape` of Python 3.11.
        for (text, expected) in [
            ("a &lt;b&gt; &amp;amp; &quot;c&quot;", "a <b> &amp; \"c\""),
            ("caf&eacute; caf&eacute &notit;", "café café ¬it;"),
            ("&#233;&#xe9;&#xE9 &#0; &#150; &#x1F600;", "ééé \u{fffd} – 😀"),
            ("&hellip;&mdash;&alpha;", "…—α"),
            ("&unknown; & &; &# AT&T", "&unknown; & &; &# AT&T"),
            ("&hellip &#xffffffffff;", "&hellip \u{fffd}"),
        ] {
            assert_eq!(unescape(text), expected, "{text:?}");
        }
    }

    #[test]
    fn tags_go_and_text_stays() {
        // Expected: the `text` of BeautifulSoup 4.15 with `html.parser`.
        for (text, expected) in [
            ("a <b>bold</b> dog", "a bold dog"),
            ("<p class=\"a>b\">x</p>", "x"),
            ("2 < 3 and 4 > 3", "2 < 3 and 4 > 3"),
            ("i <3 you", "i <3 you"),
            ("a<br/>b<!-- c -->d", "abd"),
            ("<script>var x = 1;</script>seen<style>p {}</style>", "seen"),
            ("an <unclosed tag", "an <unclosed tag"),
            ("<!doctype html>x<?php y ?>z", "xz"),
            ("fish &amp; chips &lt;b&gt; &so;", "fish & chips <b> &so"),
            ("an <!-- open comment &lt; a", "an <!-- open comment < a"),
            ("an <!-- open one &lt; a <b>c</b>", "an <!-- open one &lt; a <b>c"),
            ("x &#x41 &#x41", "x A &#x41"),
            ("<p \" class=\"x>y\">z", "z"),
        ] {
            assert_eq!(text_of(text), expected, "{text:?}");
        }
    }
}
