//! Rules for crates: dependencies between them, foreign crates, `unsafe`, and device code.

use toml::{Table, Value};

use super::strip::{code_only, is_whole_word};
use super::{Problem, Tree};

/// Every crate of the workspace with the crates of the workspace that it may depend on. A crate must not depend on any other.
const MAY_SEE: &[(&str, &[&str])] = &[
    ("golden", &[]),
    // What tests need of golden files and the program does not.
    ("golden-harness", &["golden"]),
    ("needs", &[]),
    ("latte-ops", &[]),
    // Text files of other programs: used by every reader, depends on nothing.
    ("latte-textfile", &[]),
    // Atomic files: used for weights and videos, which must not depend on each other.
    ("latte-files", &[]),
    // Progress of long work: used by every library with long work, depends on nothing.
    ("latte-progress", &[]),
    ("latte-weights", &["latte-files", "latte-ops", "latte-textfile"]),
    ("latte-model", &["latte-ops", "latte-progress", "latte-textfile", "latte-weights"]),
    ("latte-libav", &[]),
    ("latte-video", &["latte-files", "latte-libav", "latte-progress", "latte-textfile"]),
    ("latte-eval", &["latte-ops", "latte-progress", "latte-textfile", "latte-video", "latte-weights"]),
    // The facade: the only library that combines models and videos.
    ("latte", &["latte-model", "latte-ops", "latte-progress", "latte-textfile", "latte-video", "latte-weights"]),
    ("latte-train", &["latte", "latte-model", "latte-ops", "latte-progress", "latte-textfile", "latte-video"]),
    ("latte-plot", &["latte-train", "latte-video"]),
    ("latte-demo", &["latte-model", "latte-video"]),
    ("latte-serve", &["latte", "latte-train", "latte-video"]),
    // A command of the program, so its reference data is part of the program.
    ("latte-selftest", &["golden", "latte", "latte-model", "latte-ops", "latte-train"]),
    (
        "latte-cli",
        &[
            "golden",
            "latte",
            "latte-model",
            "latte-demo",
            "latte-eval",
            "latte-ops",
            "latte-plot",
            "latte-progress",
            "latte-selftest",
            "latte-serve",
            "latte-textfile",
            "latte-train",
            "latte-video",
        ],
    ),
    ("xtask", &[]),
];

/// Tests of any crate may read reference tensors, and declare what they need of the machine.
const TESTS_MAY_SEE: &[&str] = &["golden", "golden-harness", "needs"];

/// Foreign crates that only some crates may use: name prefixes, the crates that may use them, and why.
const ONLY_IN: &[(&[&str], &[&str], &str)] = &[
    (
        &["axum", "hyper", "tower", "reqwest", "tokio", "ureq", "actix", "warp", "rocket", "tiny_http", "tonic", "rouille"],
        &["latte-serve"],
        "only latte-serve knows HTTP and async",
    ),
    (
        &["candle"],
        &[
            "latte-ops",
            "latte",
            "latte-model",
            "latte-weights",
            "latte-train",
            "latte-eval",
            "latte-selftest",
            "latte-serve",
            "latte-cli",
        ],
        "video code is pixels and files, never tensors",
    ),
    (&["anyhow"], &["latte-cli", "xtask"], "libraries have an error enum of their own"),
    (&["clap", "indicatif"], &["latte-cli"], "only the command talks to the terminal"),
    (&["libc"], &["latte-ops", "latte-libav"], "system calls are only made where `unsafe` is allowed"),
];

/// Where `unsafe` is allowed: kernels and the allocator, calls of a C library (the crate exists for them), and memory mapping.
const MAY_BE_UNSAFE: &[&str] = &["crates/latte-ops/", "crates/latte-libav/", "crates/latte-weights/src/map.rs"];

/// A crate depends only on the workspace crates in `MAY_SEE`.
pub(crate) fn workspace_crates(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, file) in tree.manifests() {
        let Some((_, allowed)) = MAY_SEE.iter().find(|(crate_name, _)| *crate_name == name) else {
            problems
                .push(file.problem("a new crate: say in `MAY_SEE` of crates/xtask/src/tidy/boundaries.rs what it may depend on"));
            continue;
        };
        match dependencies(&file.text) {
            Err(e) => problems.push(file.problem(e)),
            Ok(list) => problems.extend(
                list.iter()
                    .filter(|d| MAY_SEE.iter().any(|(crate_name, _)| *crate_name == d.name))
                    .filter(|d| !(allowed.contains(&d.name.as_str()) || d.for_tests && TESTS_MAY_SEE.contains(&d.name.as_str())))
                    .map(|d| file.problem(format!("{name} must not depend on {}", d.name))),
            ),
        }
    }
    problems
}

/// Foreign crates are used only where they are allowed.
pub(crate) fn foreign_crates(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, file) in tree.manifests() {
        for dependency in dependencies(&file.text).unwrap_or_default() {
            for (prefixes, crates, why) in ONLY_IN {
                let restricted = prefixes.iter().any(|prefix| dependency.name.starts_with(prefix));
                if restricted && !crates.contains(&name) {
                    problems.push(file.problem(format!("{name} must not depend on {}: {why}", dependency.name)));
                }
            }
        }
    }
    problems
}

/// Every crate uses the lints of the workspace.
pub(crate) fn workspace_lints(tree: &Tree) -> Vec<Problem> {
    let without = tree.manifests().filter(|(_, file)| {
        let lints = file.text.parse::<Table>().ok().and_then(|table| table.get("lints")?.get("workspace")?.as_bool());
        lints != Some(true)
    });
    without.map(|(_, file)| file.problem("needs `[lints]` with `workspace = true`")).collect()
}

/// `unsafe` occurs only where it is allowed.
pub(crate) fn unsafe_code(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.rust().filter(|f| !MAY_BE_UNSAFE.iter().any(|place| f.path.starts_with(place))) {
        let code = code_only(&file.text);
        for (offset, word) in code.match_indices("unsafe") {
            if is_whole_word(&code, offset, word) {
                problems.push(file.problem_at(offset, "`unsafe` is for latte-ops and latte-libav only"));
            }
        }
    }
    problems
}

/// Only latte-ops has code that depends on a device feature.
pub(crate) fn device_features(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for file in tree.rust().filter(|f| !f.path.starts_with("crates/latte-ops/")) {
        let code = code_only(&file.text);
        for (offset, word) in code.match_indices("feature") {
            // The blanked code still has the quotes; the text has their contents at the same offset.
            let opens = code[offset + word.len()..].trim_start().strip_prefix('=').map(str::trim_start);
            let Some(quoted) = opens.and_then(|rest| rest.strip_prefix('"')) else { continue };
            let content = &file.text[code.len() - quoted.len()..];
            if is_whole_word(&code, offset, word) && content.split('"').next() == Some("cuda") {
                problems
                    .push(file.problem_at(offset, "`feature = \"cuda\"` is for latte-ops only: no other crate knows devices"));
            }
        }
    }
    problems
}

/// Diffusion and samplers know a network only as a `Denoiser`, never as the transformer.
pub(crate) fn diffusion_sees_no_model(tree: &Tree) -> Vec<Problem> {
    let blind = ["crates/latte-model/src/diffusion", "crates/latte-model/src/sampling"];
    let mut problems = Vec::new();
    for file in tree.rust().filter(|f| blind.iter().any(|place| f.path.starts_with(place))) {
        let code = code_only(&file.text);
        for (offset, word) in code.match_indices("model") {
            let path = code[..offset].trim_end();
            // `crate::model` and `super::model`, or `model` in a list of a `use`.
            let statement = path.rsplit(';').next().unwrap_or_default();
            let in_use =
                statement.rsplit('}').next().is_some_and(|s| s.trim_start().starts_with("use ") && s.contains("crate::"));
            if is_whole_word(&code, offset, word) && (path.ends_with("crate::") || path.ends_with("super::") || in_use) {
                problems.push(file.problem_at(offset, "diffusion and samplers see only `Denoiser`, never the model"));
            }
        }
    }
    problems
}

struct Dependency {
    name: String,
    for_tests: bool,
}

/// All dependencies of a manifest: normal, for tests, for build scripts, for single targets. Renamed ones with their real name.
fn dependencies(manifest: &str) -> Result<Vec<Dependency>, String> {
    let table: Table = manifest.parse().map_err(|e| format!("no TOML: {e}"))?;
    let targets = table.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut list = Vec::new();
    for section in std::iter::once(&table).chain(targets) {
        for key in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in section.get(key).and_then(Value::as_table).into_iter().flatten() {
                let name = value.get("package").and_then(Value::as_str).unwrap_or(name);
                list.push(Dependency { name: name.into(), for_tests: key == "dev-dependencies" });
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::super::testing::found;
    use super::*;

    fn manifest(name: &str, text: &str) -> (String, String) {
        (format!("crates/{name}/Cargo.toml"), text.into())
    }

    fn problems(rule: fn(&Tree) -> Vec<Problem>, name: &str, text: &str) -> Vec<String> {
        let (path, text) = manifest(name, text);
        found(rule, &[(&path, &text)])
    }

    #[test]
    fn a_forbidden_crate_of_the_workspace_is_found() {
        let see = |name: &str, text: &str| problems(workspace_crates, name, text);
        assert_eq!(
            see("latte-model", "[dependencies]\nlatte-video.workspace = true"),
            ["crates/latte-model/Cargo.toml: latte-model must not depend on latte-video"]
        );
        assert_eq!(see("latte-ops", "[dependencies]\nlatte-model = { path = \"../latte-model\" }").len(), 1);
        assert_eq!(see("latte-video", "[dev-dependencies]\nlatte-model.workspace = true").len(), 1);
        assert_eq!(see("latte-train", "[target.'cfg(unix)'.dependencies]\nlatte-cli = \"1\"").len(), 1);
        assert_eq!(see("latte-video", "[dependencies]\nx = { package = \"latte-model\", path = \"../latte-model\" }").len(), 1);
        assert_eq!(see("latte-model", "[dependencies]\ngolden.workspace = true").len(), 1);
        assert_eq!(see("surprise", "[dependencies]").len(), 1);
        assert_eq!(see("latte-model", "[dependencies\n").len(), 1);
        assert_eq!(see("latte-model", "[dependencies]\nneeds.workspace = true").len(), 1);
        let fine = "[dependencies]\nlatte-ops.workspace = true\nserde = \"1\"\n[dev-dependencies]\ngolden.workspace = true\nneeds.workspace = true";
        assert_eq!(see("latte-model", fine), Vec::<String>::new());
    }

    #[test]
    fn a_foreign_crate_in_the_wrong_place_is_found() {
        let foreign =
            |name: &str, dependency: &str| problems(foreign_crates, name, &format!("[dependencies]\n{dependency} = \"1\"")).len();
        assert_eq!(foreign("latte-model", "tokio"), 1);
        assert_eq!(foreign("latte-cli", "hyper-util"), 1);
        assert_eq!(foreign("latte-video", "candle-core"), 1);
        assert_eq!(foreign("latte-train", "anyhow"), 1);
        assert_eq!(foreign("latte-video", "clap"), 1);
        assert_eq!(foreign("latte-serve", "axum"), 0);
        assert_eq!(foreign("latte-cli", "anyhow"), 0);
        assert_eq!(foreign("latte-model", "candle-core"), 0);
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        assert_eq!(problems(workspace_lints, "latte-model", "[lints]\nworkspace = true"), Vec::<String>::new());
        for text in ["[package]", "[lints]\nworkspace = false", "[lints.rust]\nunsafe_code = \"deny\""] {
            assert_eq!(problems(workspace_lints, "latte-model", text).len(), 1, "{text}");
        }
    }

    #[test]
    fn unsafe_code_outside_the_allowed_places_is_found() {
        let text = "//! unsafe\nfn f() {\n    unsafe { g() }\n}";
        assert_eq!(
            found(unsafe_code, &[("crates/latte-model/src/a.rs", text)]),
            ["crates/latte-model/src/a.rs:3: `unsafe` is for latte-ops and latte-libav only"]
        );
        let fine = [
            ("crates/latte-ops/src/a.rs", text),
            ("crates/latte-weights/src/map.rs", text),
            ("crates/a/src/lib.rs", "#![deny(unsafe_code)] let s = \"unsafe\";"),
        ];
        assert_eq!(found(unsafe_code, &fine), Vec::<String>::new());
    }

    #[test]
    fn a_device_feature_outside_latte_ops_is_found() {
        let text = "#[cfg(feature = \"cuda\")]\nmod gpu;";
        for spelling in [text, "#[cfg(not(feature=\"cuda\"))]", "if cfg!(feature = \"cuda\") {}"] {
            assert_eq!(found(device_features, &[("crates/latte-model/src/a.rs", spelling)]).len(), 1, "{spelling}");
        }
        let fine = [
            ("crates/latte-ops/src/a.rs", text),
            ("crates/latte-model/src/a.rs", "// #[cfg(feature = \"cuda\")]"),
            ("crates/latte-model/src/b.rs", "#[cfg(feature = \"cudax\")] let feature = \"x\";"),
            ("crates/latte-model/src/c.rs", "let s = \"feature = cuda\";"),
        ];
        assert_eq!(found(device_features, &fine), Vec::<String>::new());
    }

    #[test]
    fn a_sampler_that_knows_the_model_is_found() {
        let cases = [
            "use crate::model::Latte;",
            "use crate::{Result, model};",
            "use crate::{Result, model::Latte};",
            "fn f(x: crate::model::Latte) {}",
            "use super::super::model;",
        ];
        for text in cases {
            for folder in ["sampling", "diffusion"] {
                let path = format!("crates/latte-model/src/{folder}/a.rs");
                assert_eq!(found(diffusion_sees_no_model, &[(&path, text)]).len(), 1, "{text}");
            }
        }
        let fine = [
            ("crates/latte-model/src/pipeline.rs", "use crate::model::Latte;"),
            ("crates/latte-model/src/sampling/a.rs", "//! crate::model\nfn f(model: &dyn Denoiser) { model.predict() }"),
            ("crates/latte-model/src/sampling/b.rs", "use crate::Result;\nfn g(model: u8) {}\nuse crate::modelling;"),
            ("crates/latte-model/src/sampling/c.rs", "use crate::{A, B};\nstruct S { model: u8 }"),
        ];
        assert_eq!(found(diffusion_sees_no_model, &fine), Vec::<String>::new());
    }
}
