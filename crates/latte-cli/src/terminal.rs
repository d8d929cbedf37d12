//! Prints results on standard output and messages on standard error.

use std::borrow::Cow;
use std::io::Write;

use latte_textfile::printable;

/// Writes one or several lines to standard output. A closed pipe (`latte inspect … | head`) is not an error. Control characters in
/// names and texts are escaped.
pub(crate) fn say(line: &str) {
    say_styled(&shown(line));
}

/// Writes a line with colours of this program to standard output unchanged.
pub(crate) fn say_styled(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes a line to standard error, with control characters escaped.
pub(crate) fn note(line: &str) {
    let _ = writeln!(std::io::stderr(), "{}", shown(line));
}

/// A text with control characters escaped, except line breaks and tabs.
fn shown(text: &str) -> Cow<'_, str> {
    let is_plain = |part: &str| matches!(printable(part), Cow::Borrowed(_));
    let mut parts = text.split(['\n', '\t']);
    if parts.all(is_plain) {
        return Cow::Borrowed(text);
    }
    let part = |part: &str| {
        let (body, end) = part.strip_suffix(['\n', '\t']).map_or((part, ""), |body| (body, &part[body.len()..]));
        printable(body).into_owned() + end
    };
    Cow::Owned(text.split_inclusive(['\n', '\t']).map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        assert_eq!(shown("one\n\ttwo ü"), "one\n\ttwo ü");
        assert_eq!(shown("a\u{1b}[2J\n\u{0}b\t\u{7f}\n"), "a\\u001b[2J\n\\u0000b\t\\u007f\n");
        // JSON stays JSON with the same meaning.
        let json = "{\"a\": \"\u{feff}\u{7f}\"}";
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown(json)).unwrap(),
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        );
    }
}
