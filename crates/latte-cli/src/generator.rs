//! Opens class models, as options of the command line name them.

use std::path::Path;

use latte::{Device, Error, Generator, Precision};

use crate::failure::bad_input;
use crate::terminal::note;

/// What fields of requests are called on the command line.
const OPTIONS: [(&str, &str); 7] = [
    ("steps", "--steps"),
    ("eta", "--eta"),
    ("size", "--size"),
    ("frames", "--frames"),
    ("guidance", "--guidance"),
    ("class", "--class"),
    ("autoencoder", "--vae"),
];

/// Opens a weights file, or the newest weights of a checkpoint or run folder: the moving average, or with `raw` the weights
/// themselves. Models that work on latents need their autoencoder: that at `vae`, else the one of their training; it multiplies
/// matrices in `precision`. Both work on `device`.
///
/// # Errors
///
/// If there are none, or they do not fit the model that the file describes.
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

/// The same error with the option of the command line in place of the request's field.
pub(crate) fn of_option(error: Error) -> anyhow::Error {
    match error {
        Error::Config { key, problem } => match OPTIONS.iter().find(|(field, _)| *field == key) {
            // It begins with the name of the class.
            Some((_, option)) if key == "class" => bad_input(format!("{option} {problem}")),
            Some((_, option)) => bad_input(format!("{option}: {problem}")),
            None => Error::Config { key, problem }.into(),
        },
        other => other.into(),
    }
}
