//! A prompt that occurs twice in a batch.

use crate::{case, names, tiny_t2v};

#[test]
fn a_duplicate_prompt_is_generated_once() {
    let place = case("duplicate-prompts");
    let model = tiny_t2v();
    let few = ["t2v", "--model", &model, "--steps", "2", "--frames", "2", "--size", "32x32"];
    let (stdout, stderr) = place.both(&[&few[..], &["--prompt-file", "prompts.txt", "--out", "o"]].concat());
    assert_eq!(names(&place.path("o")), ["a_cat_seed0.json", "a_cat_seed0.mp4", "a_dog_seed0.json", "a_dog_seed0.mp4"]);
    assert_eq!(stdout.lines().count(), 4, "{stdout}");
    assert!(stderr.contains("prompts.txt, line 3: the same prompt as prompts.txt, line 1"), "{stderr}");
    assert!(stderr.contains("2 videos in"), "{stderr}");
    // From the options and the file together.
    let (_, stderr) =
        place.both(&[&few[..], &["--prompt-file", "prompts.txt", "--prompt", "a dog", "--num", "2", "--out", "p"]].concat());
    assert!(stderr.contains("prompts.txt, line 2: the same prompt as --prompt;"), "{stderr}");
    assert!(stderr.contains("4 videos in"), "{stderr}");
    assert_eq!(names(&place.path("p")).len(), 8);
}
