//! Detectors, as the command line names them.

use std::path::PathBuf;
use std::str::FromStr;

use latte_eval::detector::{Detector, Identity, Kind, Setup, identify, open, random_i3d, random_i3d_identity};
use latte_model::weights::WeightFiles;

use crate::failure::bad_input;

/// The name of the detector with seeded weights.
const RANDOM_I3D: &str = "random-i3d";
/// The seed of its weights: always the same, so that numbers are comparable.
const RANDOM_SEED: u64 = 0;

/// A detector that the user selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DetectorChoice {
    /// The network of FVD with seeded, untrained weights.
    RandomI3d,
    /// A file that `latte eval import` wrote.
    File(PathBuf),
}

impl FromStr for DetectorChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Files of results have this spelling.
        Ok(if text == RANDOM_I3D || text == "random_i3d" { Self::RandomI3d } else { Self::File(text.into()) })
    }
}

impl DetectorChoice {
    /// The kind of its network.
    ///
    /// # Errors
    ///
    /// If the file does not name it.
    pub(crate) fn kind(&self) -> anyhow::Result<Kind> {
        let Self::File(path) = self else { return Ok(Kind::I3d) };
        let files = WeightFiles::open(path)?;
        files.metadata().get("kind").and_then(|kind| Kind::from_name(kind)).ok_or_else(|| {
            bad_input(format!(
                "{}: does not name its detector; import published weights first: latte eval import \
                 {} --out OTHER",
                path.display(),
                path.display()
            ))
        })
    }

    /// Checks that it is the network `wanted`.
    fn expect(&self, wanted: Kind) -> anyhow::Result<()> {
        let kind = self.kind()?;
        if kind == wanted {
            return Ok(());
        }
        let what = format!("this score needs {}, but the file has {}; give another file", wanted.name(), kind.name());
        Err(bad_input(format!("--detector {self}: {what}")))
    }

    /// The identity of the detector. It refuses everything that [`Self::open`] would refuse, without loading the weights.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub(crate) fn identify(&self, wanted: Kind, setup: Setup) -> anyhow::Result<Identity> {
        self.expect(wanted)?;
        Ok(match self {
            Self::RandomI3d => random_i3d_identity(RANDOM_SEED, setup),
            Self::File(path) => identify(path, setup)?.1,
        })
    }

    /// Opens the detector with the setup of a protocol.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is not of the kind `wanted`.
    pub(crate) fn open(&self, wanted: Kind, setup: Setup) -> anyhow::Result<Box<dyn Detector>> {
        self.expect(wanted)?;
        Ok(match self {
            Self::RandomI3d => random_i3d(RANDOM_SEED, setup)?,
            Self::File(path) => open(path, setup)?,
        })
    }
}

impl std::fmt::Display for DetectorChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RandomI3d => f.write_str(RANDOM_I3D),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
