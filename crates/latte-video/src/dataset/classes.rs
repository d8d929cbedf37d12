//! Turns labels as written into class numbers.

use std::collections::BTreeSet;

use latte_textfile::printable;

/// The classes of a data set, from labels that are text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Classes {
    /// No item has a label.
    None,
    /// Every label is a number; all of 0 to this number minus one occur.
    Numbers(u32),
    /// Names, sorted; the number of a class is its position.
    Names(Vec<String>),
}

impl Classes {
    /// Numbers if every label is a number, names if most labels are not. The error describes what is wrong with the numbers;
    /// `place` gives the location of an item for messages.
    ///
    /// A few non-numbers among many numbers are an error: as names, all classes would get new numbers, in alphabetical order.
    pub(super) fn of(labels: &[Option<String>], place: &dyn Fn(usize) -> String) -> Result<Self, String> {
        let written = || labels.iter().enumerate().filter_map(|(at, label)| Some((at, label.as_deref()?)));
        let hint = "number the classes from 0 without gaps, or write their names, which are numbered by themselves";
        let all = written().count();
        if all == 0 {
            return Ok(Self::None);
        }
        let others = || written().filter(|(_, label)| whole_number(label).is_none());
        if let Some((at, label)) = others().next() {
            let numbers = all - others().count();
            if 2 * numbers > all {
                let label = printable(label);
                let what = format!("`{label}` ({}) is no whole number, and {numbers} of the {all} labels are", place(at));
                return Err(format!("{what}; {hint}"));
            }
            let names: BTreeSet<&str> = written().map(|(_, label)| label).collect();
            return Ok(Self::Names(names.into_iter().map(ToString::to_string).collect()));
        }
        let numbers: BTreeSet<i64> = written().filter_map(|(_, label)| whole_number(label)).collect();
        let (first, last) = (numbers.first().copied().unwrap_or(0), numbers.last().copied().unwrap_or(0));
        if first < 0 {
            return Err(format!("label {first} is negative; {hint}"));
        }
        if let Some(missing) = (0_i64..).zip(&numbers).find(|(expected, number)| expected != *number) {
            return Err(format!("labels go up to {last}, but none is {}; {hint}", missing.0));
        }
        u32::try_from(last + 1).map(Self::Numbers).ok().ok_or_else(|| format!("label {last} is too large; {hint}"))
    }

    /// The number of the class `label`.
    pub(super) fn number(&self, label: &str) -> Option<u32> {
        match self {
            Self::None => None,
            Self::Numbers(_) => whole_number(label)?.try_into().ok(),
            Self::Names(names) => names.binary_search_by(|name| name.as_str().cmp(label)).ok()?.try_into().ok(),
        }
    }

    /// The names of the classes; a number is its own name.
    pub(super) fn into_names(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::Numbers(count) => (0..count).map(|n| n.to_string()).collect(),
            Self::Names(names) => names,
        }
    }
}

/// Parses a whole number. `3.0` counts as one: programs without missing values for integers write columns with gaps this way.
fn whole_number(label: &str) -> Option<i64> {
    label.strip_suffix(".0").unwrap_or(label).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[&str]) -> Result<Classes, String> {
        let labels: Vec<Option<String>> = labels.iter().map(|label| Some((*label).to_string())).collect();
        Classes::of(&labels, &|at| format!("line {at}"))
    }

    #[test]
    fn numbers_stay_and_names_are_numbered_in_sorted_order() {
        assert_eq!(of(&[]).unwrap(), Classes::None);
        let numbers = of(&["2", "0", "1.0", "0"]).unwrap();
        assert_eq!(numbers, Classes::Numbers(3));
        assert_eq!((numbers.number("1.0"), numbers.number("1")), (Some(1), Some(1)));
        assert_eq!(numbers.into_names(), ["0", "1", "2"]);
        let names = of(&["walk", "run", "run", "7"]).unwrap();
        assert_eq!(names.number("walk"), Some(2));
        assert_eq!(names.into_names(), ["7", "run", "walk"]);
    }

    #[test]
    fn a_word_among_numbers_renumbers_nothing() {
        let error = of(&["0", "1", "x\0", "2"]).unwrap_err();
        assert!(error.starts_with("`x\\u0000` (line 2) is no whole number, and 3 of the 4 labels are; "), "{error}");
        assert!(of(&["0", "1", "1.5"]).unwrap_err().starts_with("`1.5` (line 2)"));
        assert!(of(&["99999999999999999999", "0", "1"]).unwrap_err().starts_with("`99999999999999999999` (line 0)"));
        // Names, some of which are numbers.
        assert!(matches!(of(&["3", "a", "4", "b"]).unwrap(), Classes::Names(names) if names == ["3", "4", "a", "b"]));
    }

    #[test]
    fn numbers_with_gaps_are_refused() {
        for (labels, said) in [
            (&["1", "2", "3"] as &[_], "up to 3, but none is 0"),
            (&["0", "1", "4294967295"], "none is 2"),
            (&["-1", "0"], "label -1 is negative"),
        ] {
            let error = of(labels).unwrap_err();
            assert!(error.contains(said) && error.contains("from 0 without gaps"), "{error}");
        }
    }
}
