//! A switch that turns the kernels off, so that the reference formulations compute everything, as on a device without kernels.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

static EVERYWHERE: AtomicBool = AtomicBool::new(false);

thread_local! {
    static HERE: Cell<bool> = const { Cell::new(false) };
}

/// Turns the CPU kernels off from now on, in all threads: every operation takes the path of a device without kernels. It is for
/// checks, and slow.
pub fn use_reference() {
    EVERYWHERE.store(true, Ordering::Relaxed);
}

/// Whether kernels are turned off in this thread.
pub(crate) fn is_forced() -> bool {
    EVERYWHERE.load(Ordering::Relaxed) || HERE.get()
}

/// Whether this thread computes a reference formulation to compare with it.
pub(super) fn is_comparison() -> bool {
    HERE.get()
}

/// Runs `f` with the kernels turned off in this thread. The choice between kernel and reference formulation is always made in the
/// thread that calls the operation.
pub(crate) fn by_reference<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            HERE.set(self.0);
        }
    }
    let _restore = Restore(HERE.replace(true));
    f()
}
