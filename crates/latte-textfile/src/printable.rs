//! Text of other people on a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with every sign that cannot be seen, or that a terminal would obey, as JSON escapes it: control characters (line
/// breaks among them), byte-order marks and zero-width spaces, signs that turn the direction of writing.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for sign in text.chars() {
        match sign {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // All of them have four hexadecimal digits. Writing to a string does not fail.
            _ if is_hidden(sign) => drop(write!(shown, "\\u{:04x}", sign as u32)),
            _ => shown.push(sign),
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(sign: char) -> bool {
    sign.is_control()
        || matches!(sign, '\u{feff}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped_and_the_rest_stays() {
        for (text, shown) in [
            ("plain, ümläut, 字, \u{1f469}\u{200d}\u{1f680}", "plain, ümläut, 字, \u{1f469}\u{200d}\u{1f680}"),
            ("p\0a\0t\0h", "p\\u0000a\\u0000t\\u0000h"),
            ("\u{1b}[31mred\u{7}", "\\u001b[31mred\\u0007"),
            ("a\r\n\tb\u{85}\u{7f}", "a\\r\\n\\tb\\u0085\\u007f"),
            ("\u{feff}f.png \u{202e}gnp.f", "\\ufefff.png \\u202egnp.f"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_is_left(text in any::<String>()) {
            let shown = printable(&text);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert_eq!(printable(&shown), shown.as_ref());
        }
    }
}
