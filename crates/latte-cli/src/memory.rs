//! The memory of the process.

use latte_train::MemoryMeter;

/// The peak memory of this process, from Linux.
pub(crate) fn peak_memory_mib() -> Option<u64> {
    Some(peak_memory_kib()? >> 10)
}

fn peak_memory_kib() -> Option<u64> {
    kib("/proc/self/status", "VmHWM:")
}

/// A number of KiB from a table of Linux.
fn kib(table: &str, row: &str) -> Option<u64> {
    let text = std::fs::read_to_string(table).ok()?;
    text.lines().find_map(|line| line.strip_prefix(row))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Reads the memory of tensors from the program's allocator, which holds all large tensors, and the rest from Linux.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter;

impl Meter {
    /// The available memory in bytes.
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
