//! A rule for `latte-model`: networks and their layers do not depend on the device.

use super::operations::without_tests;
use super::strip::is_whole_word;
use super::{Problem, Tree};

/// The folders of networks and layers.
const KNOW_NO_DEVICE: &[&str] = &["crates/latte-model/src/model/", "crates/latte-model/src/layers/"];

/// Words in code that refer to devices.
const OF_DEVICES: &[&str] =
    &["cpu", "Cpu", "gpu", "Gpu", "cuda", "Cuda", "Device", "device", "to_device", "is_cpu", "is_cuda", "is_metal", "new_cuda"];

/// The file with the functions that create tensors for them.
const INSTEAD: &str = "crates/latte-model/src/host.rs";

/// A network runs wherever its weights are: tensors that it creates go to the device of the weights, without naming it.
pub(crate) fn models_know_no_device(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let of_models = |path: &str| KNOW_NO_DEVICE.iter().any(|place| path.starts_with(place)) && !path.ends_with("/tests.rs");
    for file in tree.rust().filter(|f| of_models(&f.path)) {
        let code = without_tests(&file.text);
        for word in OF_DEVICES {
            for (offset, _) in code.match_indices(word) {
                if is_whole_word(&code, offset, word) {
                    let what =
                        format!("`{word}`: networks know no device; use `Parameters::beside`, `Tape::from_host` or {INSTEAD}");
                    problems.push(file.problem_at(offset, what));
                }
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    #[test]
    fn a_network_that_names_a_device_is_found() {
        for place in KNOW_NO_DEVICE {
            for text in [
                "use candle_core::Device;",
                "fn f() { Tensor::ones(3, DType::F32, &Device::Cpu) }",
                "fn f(x: &Tensor) { if x.device().is_cpu() {} }",
                "fn f(x: &Tensor, y: &Tensor) { x.to_device(place(y)) }",
                "#[cfg(feature = \"x\")]\nuse cuda::Stream;",
            ] {
                let path = format!("{place}t2v/block.rs");
                assert!(!found(models_know_no_device, &[(&path, text)]).is_empty(), "{text}");
            }
        }
        let fine = [
            (
                "crates/latte-model/src/model/a.rs",
                "//! On the device, cpu.\nfn f() { \"device\" }\n#[cfg(test)]\nmod tests { use candle_core::Device; }",
            ),
            ("crates/latte-model/src/layers/tests.rs", "use candle_core::Device;"),
            ("crates/latte-model/src/host.rs", "use candle_core::Device;"),
        ];
        assert_eq!(found(models_know_no_device, &fine), Vec::<String>::new());
    }
}
