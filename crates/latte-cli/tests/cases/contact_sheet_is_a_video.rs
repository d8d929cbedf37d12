//! `testdata/cases/contact-sheet-is-a-video`: an image beside folders of frames is not a video, and is reported.

use std::fs;

use latte_video::{ffmpeg_is_available, find_videos};

use super::case;

#[test]
fn a_contact_sheet_makes_no_video_of_its_folder() {
    let place = case("contact-sheet-is-a-video");
    let check = ["data", "check", "--path", "samples", "--num-frames", "4", "--frame-interval", "1"];
    for name in ["contact_sheet.png", "sheet.jpg", "sheet.JPEG"] {
        if name != "contact_sheet.png" {
            fs::rename(place.path("samples/contact_sheet.png"), place.path("samples").join(name)).unwrap();
        }
        let (said, notes) = place.both(&["eval", "flicker", "--fake", "samples", "--frames", "4"]);
        assert!(said.contains("3 clips") || notes.contains("3 clips"), "{name}: {said}{notes}");
        let said = place.ok(&check);
        assert!(said.contains("3 videos of 3 classes"), "{name}: {said}");
        assert!(said.contains(&format!("one image (`{name}`) beside folders")), "{name}: {said}");
        fs::rename(place.path("samples").join(name), place.path("samples/contact_sheet.png")).unwrap();
    }
}

/// The layout of `latte sample --format gif` and of a training run's samples.
#[test]
fn gifs_beside_a_contact_sheet_are_the_videos() {
    let place = case("contact-sheet-is-a-video");
    fs::create_dir(place.path("gifs")).unwrap();
    for folder in find_videos(place.path("samples")).unwrap() {
        let clip = latte_video::Video::open(&folder, latte_video::Decoder::BuiltIn).unwrap().all().unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap();
        latte_video::encode::write_gif(place.path("gifs").join(format!("{name}.gif")), &clip).unwrap();
    }
    fs::copy(place.path("samples/contact_sheet.png"), place.path("gifs/contact_sheet.png")).unwrap();
    assert_eq!(find_videos(place.path("gifs")).unwrap().len(), 3);
    if ffmpeg_is_available() {
        let (said, notes) = place.both(&["eval", "flicker", "--fake", "gifs", "--frames", "4"]);
        assert!(said.contains("3 clips") || notes.contains("3 clips"), "{said}{notes}");
    } else {
        let said = place.refused(&["eval", "flicker", "--fake", "gifs", "--frames", "4"]);
        assert!(said.contains("install ffmpeg"), "{said}");
    }
}
