//! `--device`: the device that a command runs on.

use candle_core::Device;
use latte_ops::{BUILT_WITH_CUDA, DeviceChoice};

use crate::failure::bad_input;
use crate::terminal::note;

/// The option of all commands that compute.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct DeviceArgs {
    /// The device: the CPU, or an NVIDIA GPU (cuda:0 is the first) if the program was built for GPUs. auto selects the first GPU if
    /// there is one, else the CPU.
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda:N", global = true)]
    device: DeviceChoice,
}

impl DeviceArgs {
    /// Opens the device; prints a note if it is not the CPU.
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

    /// For commands that run only on the CPU so far; `what` names the work.
    ///
    /// # Errors
    ///
    /// If the user selected another device.
    pub(crate) fn expect_cpu(self, what: &str) -> anyhow::Result<()> {
        match self.device {
            DeviceChoice::Cuda(_) => {
                let built = if BUILT_WITH_CUDA { "" } else { " (and this program was built without CUDA)" };
                Err(bad_input(format!(
                    "--device: {what} runs only on the CPU so far, got `{}`{built}; leave it out",
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
