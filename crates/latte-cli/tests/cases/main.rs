//! The folders of `testdata/cases`, one test file each: inputs that once caused wrong behaviour, with the right behaviour.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod auto_hides_damage;
mod average_under_another_key;
mod byte_order_mark;
mod check_and_train_disagree;
mod class_file_names;
mod compiled_transformer;
mod contact_sheet_is_a_video;
mod cut_open_gop;
mod decoders;
mod duplicate_prompts;
mod fragment_signed_offsets;
mod frame_order;
mod h264_noise;
mod misnamed_image;
mod nan_becomes_black;
mod overwritten_by_other_settings;
#[path = "../place/mod.rs"]
mod place;
mod plot_axes;
mod prompt_cut_silently;
mod pt_roundtrip;
mod readme_own_videos;
mod readonly_cache;
mod rows_lost_by_nan;
mod sampler_option_ignored;
mod unclear_errors_sampling;
mod unclear_errors_text;
mod unclear_errors_training;
mod unclear_errors_video;
mod unclear_errors_weights;

use std::fs;
use std::path::Path;

use place::{Place, copy_folder, testdata};

/// A new, writable folder with a copy of `testdata/cases/NAME`.
fn case(name: &str) -> Place {
    let place = Place::empty();
    copy_folder(&testdata("cases").join(name), &place.path("."));
    place
}

/// The tiny text-to-video model with random weights, as an argument.
fn tiny_t2v() -> String {
    testdata("golden/tiny-latte-t2v").to_str().unwrap().to_owned()
}

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
