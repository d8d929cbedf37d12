//! Turns a panic of a decoder, which a damaged file can cause, into an error.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `decode`; a panic becomes an error. State that `decode` changes must not be used after an error.
///
/// The first call wraps the panic hook of the process: panics inside `decode` are not printed, others still are.
pub(crate) fn run<T, E: From<String>>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                print(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    GUARDED.set(outer);
    result.unwrap_or_else(|payload| {
        let said = payload.downcast_ref::<&str>().map(ToString::to_string);
        let said = said.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(format!("the decoder gave up ({said})").into())
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(super::run::<_, String>(|| Ok(3)), Ok(3));
        assert_eq!(super::run::<(), String>(|| Err("x".into())), Err("x".into()));
        let said = super::run::<(), String>(|| panic!("index {}", 7)).unwrap_err();
        assert!(said.contains("index 7"), "{said}");
    }
}
