//! Opens class models for the options of the command line.

use std::path::Path;

use latte::{Device, Error, Generator, Precision};

use crate::failure::bad_input;
use crate::terminal::note;

/// The command line options of the fields of requests.
const OPTIONS: [(&str, &str); 7] = [
    ("steps", "--steps"),
    ("eta", "--eta"),
    ("size", "--size"),
    ("frames", "--frames"),
    ("guidance", "--guidance"),
    ("class", "--class"),
    ("autoencoder", "--vae"),
];

/// Opens a weights file, or the newest weights of a checkpoint or run folder: the moving average, or with `raw` the raw weights. A
/// model on latents needs its autoencoder: the one at `vae`, else that of its training, whose matmuls run in `precision`. Both run
/// on `device`.
///
/// # Errors
///
/// If there are no weights, or they do not fit the model that the file describes.
pub(crate) fn open(
    path: &Path,
    raw: bool,
    vae: Option<&Path>,
    precision: Precision,
    device: Device,
) -> anyhow::Result<Generator> {
    let mut builder = Generator::open(path)?.precision(precision).on(device);
    if raw {
        builder = builder.raw_weights();
    }
    if let Some(vae) = vae {
        builder = builder.autoencoder(vae);
    }
    let generator = builder.load().map_err(of_option)?;
    for line in generator.notes() {
        note(line);
    }
    Ok(generator)
}

/// The same error with the command line option instead of the field of the request.
pub(crate) fn of_option(error: Error) -> anyhow::Error {
    match error {
        Error::Config { key, problem } => match OPTIONS.iter().find(|(field, _)| *field == key) {
            // The message already begins with the name of the class.
            Some((_, option)) if key == "class" => bad_input(format!("{option} {problem}")),
            Some((_, option)) => bad_input(format!("{option}: {problem}")),
            None => Error::Config { key, problem }.into(),
        },
        other => other.into(),
    }
}
