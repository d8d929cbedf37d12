//! How often the reference formulation did the work.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

static COUNTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// How often the reference formulation computed an operation, by its name, since the program began: because a device has no
/// kernel for it, or because [`use_reference`](crate::use_reference) says so.
pub fn fallbacks() -> BTreeMap<&'static str, u64> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

pub(super) fn count(operation: &'static str) {
    *COUNTS.lock().unwrap_or_else(PoisonError::into_inner).entry(operation).or_default() += 1;
}
