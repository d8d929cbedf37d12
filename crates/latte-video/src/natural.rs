//! Natural order of file names.
//!
//! A name without its extension is a sequence of letters and numbers, compared from left to right: runs of digits by value, of any
//! length; letters without case. A name that is a prefix of another comes first (`img` before `img (1)`). Names that are equal in
//! this sense (`1`, `01`) are ordered by their bytes.
//!
//! Two numbers with a dot between them (`1.5`, but not `1.5.2`) may be two counters, where `1.10` is the tenth, or a decimal
//! fraction, where `1.25` comes before `1.5`. All names of a folder decide together. If some have more digits after the dot than
//! others, they are fractions in two cases: a longer one begins with 0 (no counter goes from `1` to `04`), or no number with two or
//! more digits ends with 0 (a counter would reach `10`, while fractions are printed without trailing zeros). So `0.9` is before
//! `0.10`, and `0.04`, `0.2`, `0.24` are in this order.

use std::cmp::Ordering;
use std::path::PathBuf;

/// Sorts files of one folder.
pub(crate) fn sort(files: &mut Vec<PathBuf>) {
    let stems: Vec<String> =
        files.iter().map(|file| file.file_stem().unwrap_or_default().to_string_lossy().into_owned()).collect();
    let fractions = fractions(&stems);
    let mut order: Vec<(Vec<Token<'_>>, PathBuf)> =
        stems.iter().map(|stem| tokens(stem, &fractions)).zip(std::mem::take(files)).collect();
    order.sort_by(|(a, first), (b, second)| compare(a, b).then_with(|| first.cmp(second)));
    files.extend(order.into_iter().map(|(_, file)| file));
}

/// A token of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    /// One letter, in lower case.
    Letter(char),
    /// A dot between two numbers that are not a fraction: sorted after every letter, so that `1_a` is before `1.5_a`.
    Dot,
    /// Digits without leading zeros; and the digits after the dot of a fraction, without trailing zeros.
    Number(&'a str, &'a str),
}

fn compare(a: &[Token<'_>], b: &[Token<'_>]) -> Ordering {
    let parts = a.iter().zip(b).map(|(a, b)| match (a, b) {
        (Token::Letter(a), Token::Letter(b)) => a.cmp(b),
        (Token::Dot, Token::Dot) => Ordering::Equal,
        (Token::Dot, _) => Ordering::Greater,
        (_, Token::Dot) => Ordering::Less,
        // A number with more digits is larger, as there are no leading zeros.
        (Token::Number(a, behind_a), Token::Number(b, behind_b)) => {
            a.len().cmp(&b.len()).then_with(|| a.cmp(b)).then_with(|| behind_a.cmp(behind_b))
        }
        (Token::Letter(letter), Token::Number(..)) => letter.cmp(&'0'),
        (Token::Number(..), Token::Letter(letter)) => '0'.cmp(letter),
    });
    parts.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// The tokens of a name; `fractions` says whether its n-th pair of numbers with a dot between them is a fraction.
fn tokens<'a>(stem: &'a str, fractions: &[bool]) -> Vec<Token<'a>> {
    let mut tokens = Vec::new();
    let mut pairs = 0;
    let mut rest = stem;
    let mut before = ' ';
    while let Some(letter) = rest.chars().next() {
        if !letter.is_ascii_digit() {
            let behind = &rest[letter.len_utf8()..];
            let is_between = letter == '.' && before == '0' && behind.starts_with(|c: char| c.is_ascii_digit());
            let small = letter.to_lowercase().next().unwrap_or(letter);
            tokens.push(if is_between { Token::Dot } else { Token::Letter(small) });
            (before, rest) = (letter, behind);
            continue;
        }
        let (number, behind) = digits(rest);
        let pair = second_of_pair(behind).filter(|_| before != '.');
        let is_fraction = pair.is_some() && fractions.get(pairs).copied().unwrap_or(false);
        pairs += usize::from(pair.is_some());
        let fraction = pair.filter(|_| is_fraction).unwrap_or_default();
        tokens.push(Token::Number(number.trim_start_matches('0'), fraction.trim_end_matches('0')));
        before = '0';
        rest = if is_fraction { &behind[1 + fraction.len()..] } else { behind };
    }
    tokens
}

/// The leading digits of `text`, and the rest.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// The digits after the dot that follows a number, unless it is one of several dots (a version, a date, a time of day).
fn second_of_pair(behind: &str) -> Option<&str> {
    let (second, rest) = digits(behind.strip_prefix('.')?);
    let goes_on = rest.strip_prefix('.').is_some_and(|more| more.starts_with(|c: char| c.is_ascii_digit()));
    (!second.is_empty() && !goes_on).then_some(second)
}

/// Whether the first, second, … pair of numbers in the names of a folder is a fraction.
fn fractions(stems: &[String]) -> Vec<bool> {
    let mut places: Vec<Vec<&str>> = Vec::new();
    for stem in stems {
        let (mut rest, mut before, mut pairs) = (stem.as_str(), ' ', 0);
        while let Some(letter) = rest.chars().next() {
            if !letter.is_ascii_digit() {
                (before, rest) = (letter, &rest[letter.len_utf8()..]);
                continue;
            }
            let (_, behind) = digits(rest);
            if let Some(second) = second_of_pair(behind).filter(|_| before != '.') {
                if places.len() == pairs {
                    places.push(Vec::new());
                }
                places[pairs].push(second);
                pairs += 1;
            }
            (before, rest) = ('0', behind);
        }
    }
    places.iter().map(|seconds| are_fractions(seconds)).collect()
}

fn are_fractions(seconds: &[&str]) -> bool {
    let shortest = seconds.iter().map(|second| second.len()).min().unwrap_or_default();
    let longer = || seconds.iter().filter(|second| second.len() > shortest);
    longer().next().is_some()
        && (longer().any(|second| second.starts_with('0'))
            || !seconds.iter().any(|second| second.len() > 1 && second.ends_with('0')))
}

#[cfg(test)]
mod tests;
