//! How much memory the process holds.

use latte_train::MemoryMeter;

/// The most memory that this process has held, as Linux tells it.
pub(crate) fn peak_memory_mib() -> Option<u64> {
    Some(peak_memory_kib()? >> 10)
}

fn peak_memory_kib() -> Option<u64> {
    kib("/proc/self/status", "VmHWM:")
}

/// A number of KiB from one of Linux's tables.
fn kib(table: &str, row: &str) -> Option<u64> {
    let text = std::fs::read_to_string(table).ok()?;
    text.lines().find_map(|line| line.strip_prefix(row))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Asks the program's allocator, which holds all large tensors, and Linux for the rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter;

impl Meter {
    /// Bytes that the system could still give.
    pub(crate) fn available_bytes() -> Option<u64> {
        Some(kib("/proc/meminfo", "MemAvailable:")? << 10)
    }
}

impl MemoryMeter for Meter {
    fn begin(&self) {
        crate::ALLOCATOR.forget();
    }

    fn most_held(&self) -> u64 {
        crate::ALLOCATOR.most_held() as u64
    }

    fn process_peak(&self) -> Option<u64> {
        Some(peak_memory_kib()? << 10)
    }

    fn available(&self) -> Option<u64> {
        Self::available_bytes()
    }
}
