//! Patterns of file names with braces: `{00000..00009}` and `{a,b}`.

/// Maximum number of names; a larger range is probably a typo.
const MAX_NAMES: usize = 1_000_000;

/// All names that a pattern stands for, in order. If a number begins with 0, all are padded to the same width.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some(open) = pattern.find('{') else { return Ok(vec![pattern.to_string()]) };
    let Some(close) = pattern[open..].find('}').map(|n| open + n) else {
        return Err("a brace is opened and not closed".to_string());
    };
    let (head, inner, tail) = (&pattern[..open], &pattern[open + 1..close], &pattern[close + 1..]);
    let choices = choices(inner)?;
    let tails = expand(tail)?;
    if choices.len().saturating_mul(tails.len()) > MAX_NAMES {
        return Err(format!("the pattern means more than {MAX_NAMES} files"));
    }
    Ok(choices.iter().flat_map(|choice| tails.iter().map(move |tail| format!("{head}{choice}{tail}"))).collect())
}

/// The alternatives between two braces.
fn choices(inner: &str) -> Result<Vec<String>, String> {
    let Some((from, to)) = inner.split_once("..") else {
        return Ok(inner.split(',').map(ToString::to_string).collect());
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<usize>().ok().filter(|_| digits)
    };
    let (Some(first), Some(last)) = (number(from), number(to)) else {
        return Err(format!("`{{{inner}}}` should be two numbers with `..` between them, as {{00000..00009}}"));
    };
    if last < first || last - first >= MAX_NAMES {
        return Err(format!("`{{{inner}}}` should go up, by at most {MAX_NAMES} numbers"));
    }
    let width = if from.starts_with('0') || to.starts_with('0') { from.len().max(to.len()) } else { 0 };
    Ok((first..=last).map(|n| format!("{n:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn patterns_expand_in_order() {
        assert_eq!(expand("a.tar").unwrap(), ["a.tar"]);
        assert_eq!(expand("s-{008..011}.tar").unwrap(), ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]);
        assert_eq!(expand("{9..11}").unwrap(), ["9", "10", "11"]);
        assert_eq!(expand("{b,a}/{0..1}").unwrap(), ["b/0", "b/1", "a/0", "a/1"]);
    }

    #[test]
    fn wrong_patterns_are_refused() {
        for (pattern, said) in [
            ("{0..", "not closed"),
            ("{a..b}", "two numbers"),
            ("{5..1}", "should go up"),
            ("{0..99999999999999999999}", "two numbers"),
            ("{0..9999999}", "at most"),
            ("{0..9999}{0..9999}", "more than 1000000 files"),
        ] {
            let error = expand(pattern).unwrap_err();
            assert!(error.contains(said), "{pattern}: {error}");
        }
    }
}
