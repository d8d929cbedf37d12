//! Opens devices: the only place that does.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;

use crate::{Error, Result};

/// The device that the user asks for: `auto`, `cpu` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device if this program was built for CUDA and the device opens, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The CUDA device with this number, counted from 0.
    Cuda(usize),
}

/// Whether this program was built with the feature `cuda`.
pub const BUILT_WITH_CUDA: bool = cfg!(feature = "cuda");

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if a CUDA device is asked for and the program was built without CUDA, or the device cannot be opened.
    pub fn open(self) -> Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(index) => cuda(index),
            // Without a driver, a device or free memory, `auto` still works, on the CPU.
            Self::Auto => Ok(if BUILT_WITH_CUDA { cuda(0).unwrap_or(Device::Cpu) } else { Device::Cpu }),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device> {
    let failed = |why: String| {
        // The stand-ins of `scripts/cuda-stand-ins` return this for a missing library. The lines after the first are a backtrace.
        let why = if why.contains("STUB_LIBRARY") {
            "there is no NVIDIA driver (libcuda.so.1) here".to_string()
        } else if why.contains("NOT_INITIALIZED") {
            "the libraries of CUDA 13 (libcublas.so.13, libcurand.so.10) are not found; put their folder on LD_LIBRARY_PATH"
                .into()
        } else {
            why.lines().next().unwrap_or_default().to_string()
        };
        Error::Device(format!("`cuda:{index}` cannot be opened: {why}; look at `nvidia-smi`, or use --device cpu"))
    };
    // If the driver or a library of CUDA is missing, some versions of the bindings panic instead of returning an error.
    match std::panic::catch_unwind(|| Device::new_cuda(index)) {
        Ok(device) => device.map_err(|e| failed(e.to_string())),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(failed(said.unwrap_or_else(|| "the driver or a library of CUDA is missing".into())))
        }
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(index: usize) -> Result<Device> {
    let how = "build it with `cargo build --release --features cuda` (docs/cuda.md), or use --device cpu";
    Err(Error::Device(format!("`cuda:{index}` was asked for, but this program was built without CUDA; {how}")))
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let index = || text.strip_prefix("cuda:").filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok();
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => index().map(Self::Cuda).ok_or_else(|| format!("expected auto, cpu or cuda:N (N from 0), got \"{text}\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Cuda(7)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "CPU", "cuda:99999999999999999999999"] {
            let refused = wrong.parse::<DeviceChoice>();
            assert!(refused.as_ref().is_err_and(|e| e.contains("cuda:N") && e.contains(wrong)), "{refused:?}");
        }
    }

    #[test]
    fn the_cpu_is_always_there_and_a_device_that_is_not_is_one_line() {
        assert!(DeviceChoice::Cpu.open().is_ok_and(|device| device.is_cpu()));
        assert!(DeviceChoice::Auto.open().is_ok());
        // No machine has so many devices.
        let message = DeviceChoice::Cuda(4095).open().err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains("cuda:4095") && message.contains("--device cpu") && !message.contains('\n'), "{message}");
        assert!(BUILT_WITH_CUDA || message.contains("--features cuda"), "{message}");
    }
}
