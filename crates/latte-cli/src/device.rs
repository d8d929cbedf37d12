//! `--device`: on what a command works.

use candle_core::Device;
use latte_ops::{BUILT_WITH_CUDA, DeviceChoice};

use crate::failure::bad_input;
use crate::terminal::note;

/// The one option of all commands that compute.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct DeviceArgs {
    /// What works: the CPU, or an NVIDIA GPU (cuda:0 is the first) where the program was built for them. auto takes the first GPU
    /// if there is one, else the CPU.
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda:N", global = true)]
    device: DeviceChoice,
}

impl DeviceArgs {
    /// Opens the device; says so if it is not the CPU.
    ///
    /// # Errors
    ///
    /// If there is no such device.
    pub(crate) fn open(self) -> anyhow::Result<Device> {
        let device = self.device.open().map_err(|e| bad_input(format!("--{e}")))?;
        if !device.is_cpu() {
            note(&format!("device: {}", name(&device)));
        }
        Ok(device)
    }

    /// For commands that only the CPU can do so far, `what`.
    ///
    /// # Errors
    ///
    /// If another device is asked for.
    pub(crate) fn expect_cpu(self, what: &str) -> anyhow::Result<()> {
        match self.device {
            DeviceChoice::Cuda(_) => {
                let built = if BUILT_WITH_CUDA { "" } else { " (and this program was built without CUDA)" };
                Err(bad_input(format!(
                    "--device: {what} works on the CPU only so far, got `{}`{built}; leave it out",
                    self.device
                )))
            }
            DeviceChoice::Auto | DeviceChoice::Cpu => Ok(()),
        }
    }
}

/// `cpu` or `cuda:N`.
pub(crate) fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        candle_core::DeviceLocation::Cpu => "cpu".into(),
    }
}
