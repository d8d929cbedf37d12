//! Parses JSON objects without parsing the values that are not needed.
//!
//! Programs write invalid JSON: Python writes `NaN` and `Infinity`, others write numbers that overflow, unpaired surrogates, or
//! lists nested a thousand deep. A row must not be lost because of a value that is not read. So an object is split into keys and
//! raw values, and only the values that are read are parsed ([`cell`]).

use super::table::Cell;

/// The error is a message.
type Result<T> = std::result::Result<T, String>;

/// A key of an object with the bytes of its value.
pub(super) type Member<'a> = (String, &'a [u8]);

/// The members of the object in `bytes`, in order.
pub(super) fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.expect_open(b'{', "an object")?;
    let mut members = Vec::new();
    while !scanner.closes(b'}', members.is_empty(), "an object")? {
        if scanner.peek("an object")? != b'"' {
            return Err(scanner.wrong("a key in quotes"));
        }
        let key = scanner.value()?;
        // A key that is not valid Unicode is never one of those looked for.
        let key = serde_json::from_slice(key).unwrap_or_else(|_| String::from_utf8_lossy(key).into_owned());
        if scanner.peek("an object")? != b':' {
            return Err(scanner.wrong("a colon"));
        }
        scanner.at += 1;
        members.push((key, scanner.value()?));
    }
    scanner.end()?;
    Ok(members)
}

/// The elements of the array in `bytes`.
pub(super) fn elements(bytes: &[u8]) -> Result<Vec<&[u8]>> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.expect_open(b'[', "an array")?;
    let mut elements = Vec::new();
    while !scanner.closes(b']', elements.is_empty(), "an array")? {
        elements.push(scanner.value()?);
    }
    scanner.end()?;
    Ok(elements)
}

/// Parses a value into a cell of a table.
pub(super) fn cell(value: &[u8]) -> Cell {
    match value {
        b"null" => Cell::Missing,
        b"true" | b"false" => Cell::Unfit("true or false"),
        b"NaN" => Cell::Unfit("NaN, which is no number"),
        b"Infinity" | b"-Infinity" => Cell::Unfit("Infinity, which is no number"),
        [b'[', ..] => Cell::Unfit("a list"),
        [b'{', ..] => Cell::Unfit("an object"),
        [b'"', ..] => match serde_json::from_slice::<String>(value) {
            Ok(text) => Cell::text(&text),
            Err(_) => Cell::Unfit("text that is no Unicode, or has a control character in it"),
        },
        _ => match (serde_json::from_slice::<serde_json::Number>(value), std::str::from_utf8(value)) {
            // The digits as written: a long number may be a file name.
            (Ok(_), Ok(digits)) if digits.bytes().all(|b| b.is_ascii_digit() || b == b'-') => Cell::Text(digits.to_string()),
            (Ok(number), _) => Cell::Text(number.to_string()),
            _ => Cell::Unfit("a number that is too large or written as JSON does not write it"),
        },
    }
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte that is not a space.
    fn peek(&mut self, within: &str) -> Result<u8> {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied().ok_or_else(|| format!("EOF while parsing {within}: it ends too early"))
    }

    fn wrong(&self, expected: &str) -> String {
        let rest = String::from_utf8_lossy(&self.bytes[self.at..self.bytes.len().min(self.at + 80)]).into_owned();
        let shown: String = rest.chars().take(20).collect();
        format!("expected {expected}, got `{}` at byte {}", latte_textfile::printable(&shown), self.at + 1)
    }

    fn expect_open(&mut self, bracket: u8, what: &str) -> Result<()> {
        if self.peek(what)? != bracket {
            return Err(format!("invalid type: {}", self.wrong(what)));
        }
        self.at += 1;
        Ok(())
    }

    /// Whether the object or array ends here; if not, skips the comma, which is required except before the first element.
    fn closes(&mut self, bracket: u8, is_first: bool, within: &str) -> Result<bool> {
        let next = self.peek(within)?;
        if next == bracket || !is_first && next == b',' {
            self.at += 1;
            return Ok(next == bracket);
        }
        if is_first { Ok(false) } else { Err(self.wrong("a comma or the end")) }
    }

    /// Returns an error if anything follows.
    fn end(&mut self) -> Result<()> {
        match self.peek("what follows") {
            Err(_) => Ok(()),
            Ok(_) => Err(self.wrong("nothing behind the end")),
        }
    }

    /// The raw bytes of the next value: whole strings, matching brackets.
    fn value(&mut self) -> Result<&'a [u8]> {
        self.peek("a value")?;
        let start = self.at;
        let mut open = Vec::new();
        loop {
            match self.peek("a value")? {
                b'"' => self.text()?,
                b'{' => {
                    open.push(b'}');
                    self.at += 1;
                }
                b'[' => {
                    open.push(b']');
                    self.at += 1;
                }
                bracket @ (b'}' | b']') => {
                    if open.pop() != Some(bracket) {
                        return Err(self.wrong("a value"));
                    }
                    self.at += 1;
                }
                b',' | b':' if !open.is_empty() => self.at += 1,
                _ => self.word()?,
            }
            if open.is_empty() {
                return Ok(&self.bytes[start..self.at]);
            }
        }
    }

    /// Skips a string.
    fn text(&mut self) -> Result<()> {
        let start = self.at;
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => self.at += 1,
            }
        }
        Err(format!("EOF while parsing a string: the quote at byte {} is never closed", start + 1))
    }

    /// Skips a number or a literal such as `true`.
    fn word(&mut self) -> Result<()> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"+-._".contains(b)).count();
        let word = &rest[..len];
        let is_number = word.iter().any(u8::is_ascii_digit) && word.iter().all(|b| b.is_ascii_digit() || b"+-.eE".contains(b));
        if !is_number && ![b"null".as_slice(), b"true", b"false", b"NaN", b"Infinity", b"-Infinity"].contains(&word) {
            return Err(self.wrong("a value"));
        }
        self.at += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn text(value: &str) -> Cell {
        Cell::Text(value.into())
    }

    #[test]
    fn values_that_are_not_read_are_not_validated() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        for value in [
            "NaN",
            "-Infinity",
            "[NaN, Infinity, {\"a\": NaN}]",
            "1e999",
            "-123456789012345678901234567890123456789012345678901234567890",
            "\"\\ud800\"",
            "\"a\tb\"",
            "\"a\\\"}\"",
            "{}",
            "[]",
            "007",
            &deep,
        ] {
            let row = format!(" {{\"score\": {value}, \"path\" : \"a.mp4\"}}\r\n");
            let members = members(row.as_bytes()).unwrap();
            assert_eq!(members.len(), 2, "{row:.80}");
            assert_eq!((members[0].1, cell(members[1].1)), (value.as_bytes(), text("a.mp4")));
        }
        let latin = members(b"{\"note\": \"caf\xE9\", \"path\": \"a.mp4\"}").unwrap();
        assert_eq!(cell(latin[1].1), text("a.mp4"));
        assert_eq!(elements(b"[{\"a\":1} , 2,[3]]").unwrap(), [b"{\"a\":1}".as_slice(), b"2", b"[3]"]);
        assert!(members(b"{}").unwrap().is_empty() && elements(b" [ ] ").unwrap().is_empty());
    }

    #[test]
    fn values_that_are_read_are_parsed() {
        for (value, expected) in [
            ("null", Cell::Missing),
            ("\" \"", Cell::Missing),
            ("\"a\\u00e4\"", text("a\u{e4}")),
            ("3", text("3")),
            ("-3", text("-3")),
            ("3.0", text("3.0")),
            ("123456789012345678901234567890", text("123456789012345678901234567890")),
            ("NaN", Cell::Unfit("NaN, which is no number")),
            ("-Infinity", Cell::Unfit("Infinity, which is no number")),
            ("[1]", Cell::Unfit("a list")),
            ("{}", Cell::Unfit("an object")),
            ("true", Cell::Unfit("true or false")),
            ("\"\\ud800\"", Cell::Unfit("text that is no Unicode, or has a control character in it")),
            ("1e999", Cell::Unfit("a number that is too large or written as JSON does not write it")),
        ] {
            assert_eq!(cell(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn broken_json_is_reported() {
        for (row, said) in [
            ("", "EOF while parsing an object"),
            ("{\"a\": 1, ", "EOF while parsing an object"),
            ("{\"a\": [1, ", "EOF while parsing a value"),
            ("{\"a\": \"x}", "EOF while parsing a string: the quote at byte 7"),
            ("[1]", "invalid type: expected an object, got `[1]` at byte 1"),
            ("{\"a\": b.mp4}", "expected a value, got `b.mp4}` at byte 7"),
            ("{a: 1}", "expected a key in quotes"),
            ("{\"a\" 1}", "expected a colon"),
            ("{\"a\": 1 \"b\": 2}", "expected a comma or the end"),
            ("{\"a\": [1}}", "expected a value"),
            ("{\"a\": 1,}", "expected a key in quotes"),
            ("{\"a\": 1} x", "expected nothing behind the end"),
        ] {
            let error = members(row.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{row}: {error}");
        }
    }

    proptest! {
        /// Valid JSON is split the way serde_json parses it.
        #[test]
        fn json_is_read_as_json(keys in prop::collection::vec(".{0,6}", 0..6), texts in prop::collection::vec(".{0,8}", 6), numbers in prop::collection::vec(any::<i64>(), 6)) {
            let values = keys.iter().zip(&texts).zip(&numbers).enumerate();
            let object: Map<String, Value> = values.map(|(i, ((key, text), number))| {
                let value = [json!(text), json!(number), json!([text, {"a": number}]), json!(null)][i % 4].clone();
                (key.clone(), value)
            }).collect();
            for row in [serde_json::to_string(&object).unwrap(), serde_json::to_string_pretty(&object).unwrap()] {
                let members = members(row.as_bytes()).unwrap();
                let back: Map<String, Value> =
                    members.iter().map(|(key, value)| (key.clone(), serde_json::from_slice(value).unwrap())).collect();
                prop_assert_eq!(&back, &object);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in "[\\[\\]{}\":,aN1\\\\ -]{0,30}") {
            let _ = members(bytes.as_bytes());
            let _ = elements(bytes.as_bytes());
            cell(bytes.as_bytes());
        }
    }
}
