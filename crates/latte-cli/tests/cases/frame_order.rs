//! `testdata/cases/frame-order`: frames are in the order of the numbers in their names.

use super::case;

#[test]
fn frames_of_file_managers_and_timestamps_are_in_order() {
    let place = case("frame-order");
    for folder in ["paren", "timestamp"] {
        let said = place.ok(&["eval", "flicker", "--fake", folder, "--frames", "12"]);
        assert!(said.contains("0.986928"), "{folder}: {said}");
    }
}
