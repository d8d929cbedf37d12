//! Detectors as the command line names them.

use std::path::PathBuf;
use std::str::FromStr;

use latte_eval::detector::{Detector, Identity, Kind, Setup, identify, open, random_i3d, random_i3d_identity};
use latte_model::weights::WeightFiles;

use crate::failure::bad_input;

/// What the detector with seeded weights is called.
const RANDOM_I3D: &str = "random-i3d";
/// The seed of its weights: one for everybody, so that numbers can be compared.
const RANDOM_SEED: u64 = 0;

/// A detector that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DetectorChoice {
    /// The network of FVD with seeded weights that nobody trained.
    RandomI3d,
    /// A file that `latte eval import` wrote.
    File(PathBuf),
}

impl FromStr for DetectorChoice {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // As in files of results, too.
        Ok(if text == RANDOM_I3D || text == "random_i3d" { Self::RandomI3d } else { Self::File(text.into()) })
    }
}

impl DetectorChoice {
    /// Which network it is.
    ///
    /// # Errors
    ///
    /// If the file does not say so.
    pub(crate) fn kind(&self) -> anyhow::Result<Kind> {
        let Self::File(path) = self else { return Ok(Kind::I3d) };
        let files = WeightFiles::open(path)?;
        files.metadata().get("kind").and_then(|kind| Kind::from_name(kind)).ok_or_else(|| {
            bad_input(format!(
                "{}: does not say which detector it holds; bring published weights into this program's form first: latte eval import \
                 {} --out OTHER",
                path.display(),
                path.display()
            ))
        })
    }

    /// Whether it is the network `wanted`.
    fn expect(&self, wanted: Kind) -> anyhow::Result<()> {
        let kind = self.kind()?;
        if kind == wanted {
            return Ok(());
        }
        let what = format!("this number needs {}, and that is {}; give another file", wanted.name(), kind.name());
        Err(bad_input(format!("--detector {self}: {what}")))
    }

    /// What the detector would say of itself: all that [`Self::open`] would refuse is refused, without its work.
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

    /// The detector, set up as a protocol says.
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
