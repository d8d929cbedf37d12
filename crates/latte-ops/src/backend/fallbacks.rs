//! Counts how often the reference formulation computed an operation.

#[cfg(test)]
use std::cell::RefCell;
use std::collections::BTreeMap;
#[cfg(test)]
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::forced::is_comparison;

static COUNTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// How often the reference formulation computed each operation, by its name, since the start of the program: because the device has
/// no kernel for it, or because of [`use_reference`](crate::use_reference). Reference results that a check compares with do not
/// count.
pub fn fallbacks() -> BTreeMap<&'static str, u64> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
thread_local! {
    /// The operations that the reference formulation computed in this thread: other tests run at the same time.
    pub(super) static OF_THREAD: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
}

pub(super) fn count(operation: &'static str) {
    if is_comparison() {
        return;
    }
    #[cfg(test)]
    OF_THREAD.with_borrow_mut(|names| names.insert(operation));
    *COUNTS.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::super::forced::by_reference;
    use super::*;

    #[test]
    fn what_is_computed_to_compare_with_is_not_counted() {
        by_reference(|| count("an operation of this test"));
        assert_eq!(fallbacks().get("an operation of this test"), None);
        count("an operation of this test");
        assert_eq!(fallbacks()["an operation of this test"], 1);
    }
}
