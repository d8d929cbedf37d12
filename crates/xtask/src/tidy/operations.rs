//! Rules for `latte-ops`: operations do not depend on the device, and one place selects the backend.

use super::strip::{code_only, is_whole_word};
use super::{Problem, Tree};

/// The folders of operations, optimizers and the tape.
const KNOW_NO_DEVICE: &[&str] = &["crates/latte-ops/src/ops/", "crates/latte-ops/src/optim/", "crates/latte-ops/src/tape/"];

/// Words in code that refer to devices.
const OF_DEVICES: &[&str] = &[
    "cpu",
    "Cpu",
    "gpu",
    "Gpu",
    "cuda",
    "Cuda",
    "Device",
    "is_cpu",
    "is_cuda",
    "device",
    "reference",
    "Reference",
    "InstructionSet",
    "fetch",
    "Repr",
];

/// The one file that selects a backend, and the function in it.
const CHOOSES: &str = "crates/latte-ops/src/backend/mod.rs";
const CHOICE: &str = "fn of<";

/// Words that query the device of a tensor.
const ASKS: &[&str] = &["is_cpu", "is_cuda", "is_metal"];
const MAY_ASK: &[&str] = &["crates/latte-ops/src/backend/cpu/mod.rs", "crates/latte-ops/src/device.rs"];

/// Operations, optimizers and the tape name no device.
pub(crate) fn operations_know_no_device(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let of_operations = |path: &str| KNOW_NO_DEVICE.iter().any(|place| path.starts_with(place)) && !path.ends_with("/tests.rs");
    for file in tree.rust().filter(|f| of_operations(&f.path)) {
        let code = without_tests(&file.text);
        for word in OF_DEVICES {
            for (offset, _) in code.match_indices(word) {
                if is_whole_word(&code, offset, word) {
                    problems.push(file.problem_at(offset, format!("`{word}`: operations know no device, see {CHOOSES}")));
                }
            }
        }
    }
    problems
}

/// Only one place of `latte-ops` selects the backend of an operation.
pub(crate) fn one_dispatch(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.rust().filter(|f| f.path.starts_with("crates/latte-ops/src/")) {
        let code = without_tests(&file.text);
        let choices = code.match_indices(CHOICE).count();
        if file.path == CHOOSES && choices != 1 {
            problems.push(file.problem(format!("expected one `{CHOICE}…` that chooses a backend, found {choices}")));
        }
        if file.path != CHOOSES && code.contains("dyn Backend") && code.contains("match ") && code.contains("Repr::") {
            problems.push(file.problem(format!("chooses a backend; that is done in {CHOOSES} alone")));
        }
        for word in ASKS {
            for (offset, _) in code.match_indices(word) {
                if is_whole_word(&code, offset, word) && !MAY_ASK.contains(&file.path.as_str()) {
                    problems.push(file.problem_at(offset, format!("`{word}`: where a tensor is, {CHOOSES} asks alone")));
                }
            }
        }
    }
    problems
}

/// The code of a file without the tests at its end.
pub(super) fn without_tests(text: &str) -> String {
    let mut code = code_only(text);
    if let Some(tests) = code.find("#[cfg(test)]\nmod tests {") {
        code.truncate(tests);
    }
    code
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    #[test]
    fn an_operation_that_names_a_device_is_found() {
        let bad = [
            "use candle_core::Device;",
            "use crate::backend::cpu::linear;",
            "fn f(x: &Tensor) { if x.device().is_cpu() {} }",
            "fn f(x: &Value) { x.fetch() }",
        ];
        for text in bad {
            let found = found(operations_know_no_device, &[("crates/latte-ops/src/ops/a.rs", text)]);
            assert!(!found.is_empty(), "{text}");
        }
        let fine = [
            (
                "crates/latte-ops/src/ops/a.rs",
                "//! On the device, cpu.\nuse crate::backend;\n#[cfg(test)]\nmod tests { use candle_core::Device; }",
            ),
            ("crates/latte-ops/src/ops/b/tests.rs", "use candle_core::Device;"),
            ("crates/latte-ops/src/backend/cpu/a.rs", "use candle_core::Device;"),
        ];
        assert_eq!(found(operations_know_no_device, &fine), Vec::<String>::new());
    }

    #[test]
    fn a_second_place_that_chooses_is_found() {
        let one = (CHOOSES, "pub(crate) fn of<'v>() -> &'static dyn Backend { match value.repr() { Repr::Host(_) => &Cpu } }");
        assert_eq!(found(one_dispatch, &[one]), Vec::<String>::new());
        assert_eq!(found(one_dispatch, &[(CHOOSES, "")]).len(), 1);
        let other = "fn choose(x: &Value) -> &'static dyn Backend { match x.repr() { Repr::Host(_) => &Cpu } }";
        assert_eq!(found(one_dispatch, &[one, ("crates/latte-ops/src/ops/a.rs", other)]).len(), 1);
        let predicate = "fn is_fast(x: &Tensor) -> bool { x.device().is_cpu() }";
        assert_eq!(found(one_dispatch, &[one, ("crates/latte-ops/src/backend/reference/a.rs", predicate)]).len(), 1);
        assert_eq!(found(one_dispatch, &[one, ("crates/latte-ops/src/backend/cpu/mod.rs", predicate)]).len(), 0);
    }
}
