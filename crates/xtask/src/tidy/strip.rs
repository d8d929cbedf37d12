//! Rust source with comments and the contents of literals blanked, so that rules see only code.

/// `source` with every byte of a comment, and every byte between the quotes of a string or character literal, replaced by a space.
/// Offsets and line breaks stay the same.
pub(crate) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            blank(&mut out, at, end);
            end
        } else if rest.starts_with(b"/*") {
            let end = at + block_comment(rest);
            blank(&mut out, at, end);
            end
        } else if rest[0] == b'"' {
            let end = at + quoted(rest, b'"');
            blank(&mut out, at + 1, end - 1);
            end
        } else if let Some((open, close)) = raw_string(rest).filter(|_| at == 0 || !is_word(bytes[at - 1])) {
            blank(&mut out, at + open, at + close);
            at + close + open - 1
        } else if rest[0] == b'\'' && is_character(rest) {
            let end = at + quoted(rest, b'\'');
            blank(&mut out, at + 1, end - 1);
            end
        } else {
            at + 1
        };
        at = end.min(bytes.len());
    }
    // Only whole characters are blanked, so the result is valid UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

/// Whether the word `word` begins at byte `offset` of `code` and is not part of a longer name.
pub(crate) fn is_whole_word(code: &str, offset: usize, word: &str) -> bool {
    let bytes = code.as_bytes();
    let after = offset + word.len();
    (offset == 0 || !is_word(bytes[offset - 1])) && (after >= bytes.len() || !is_word(bytes[after]))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn blank(out: &mut [u8], from: usize, to: usize) {
    let to = to.min(out.len());
    for byte in out.iter_mut().take(to).skip(from) {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Length of the block comment at the start of `rest`; block comments nest.
fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of the literal at the start of `rest`, including both quotes.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Start and end of the content of a raw string at the start of `rest`.
fn raw_string(rest: &[u8]) -> Option<(usize, usize)> {
    let prefix = if rest.starts_with(b"br") { 2 } else { usize::from(rest[0] == b'r') };
    if prefix == 0 {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let open = prefix + hashes + 1;
    let mut close = vec![b'#'; hashes + 1];
    close[0] = b'"';
    let end = rest[open..].windows(close.len()).position(|w| w == close).unwrap_or(rest.len() - open);
    Some((open, open + end))
}

/// Whether the quote at the start of `rest` opens a character literal, not a lifetime.
fn is_character(rest: &[u8]) -> bool {
    match rest.get(1) {
        Some(b'\\') => true,
        // Lifetimes with characters outside ASCII are not supported.
        Some(b) if !b.is_ascii() => true,
        Some(_) => rest.get(2) == Some(&b'\''),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_code_is_not() {
        let cases = [
            ("a // unsafe\nb", "a          \nb"),
            ("a /* x /* y */ z */ b", "a                   b"),
            (r#"f("un\"safe") g"#, r#"f("        ") g"#),
            (r##"r#"a"b"# c"##, r##"r#"   "# c"##),
            ("'a' 'b", "' ' 'b"),
            (r"'\'' x", r"'  ' x"),
            ("for r in x", "for r in x"),
            ("var\"x\"", "var\" \""),
            ("// ü\nc", "     \nc"),
        ];
        for (source, expected) in cases {
            let got = code_only(source);
            assert_eq!(got.len(), source.len(), "{source}");
            assert_eq!(got, expected, "{source}");
        }
    }

    #[test]
    fn an_unclosed_literal_does_not_panic() {
        for source in ["\"abc", "r#\"abc", "/* abc", "'\\", "\"\\"] {
            assert_eq!(code_only(source).len(), source.len());
        }
    }

    #[test]
    fn a_part_of_a_name_is_not_a_word() {
        assert!(is_whole_word("x unsafe {", 2, "unsafe"));
        assert!(!is_whole_word("is_unsafe {", 3, "unsafe"));
        assert!(!is_whole_word("unsafe_code", 0, "unsafe"));
    }
}
