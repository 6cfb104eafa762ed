//! Every parser of what a caller or a server wrote, each with what must be true of whatever it makes of its input.
//!
//! ```text
//!   make fuzz     libFuzzer invents inputs, guided by what they reach; tests/fuzz holds one small program per target
//!   cargo test    each input that is kept below tests/fuzz/corpus
//! ```
//!
//! Compiled for these two only; what is installed has none of it. A property that does not hold is a panic.

use crate::{exchange, http, rpc};

/// Puts one input to one parser.
type Target = fn(&[u8]);

/// Each target by the name of its program and of the folder of its corpus.
const TARGETS: [(&str, Target); 14] = [
    ("accept", http::fuzz::accept),
    ("arguments", http::fuzz::arguments),
    ("content_type", http::fuzz::content_type),
    ("credential", http::fuzz::credential),
    ("edge", http::fuzz::edge),
    ("envelope", rpc::fuzz::envelope),
    ("frame", rpc::fuzz::frame),
    ("json", exchange::fuzz::json),
    ("message", rpc::fuzz::message),
    ("route", http::fuzz::route),
    ("steps", http::fuzz::steps),
    ("terms", http::fuzz::terms),
    ("text", http::fuzz::text),
    ("trace", exchange::fuzz::trace),
];

/// Puts this input to the parser of that name.
///
/// # Panics
///
/// If the parser is wrong about it, or there is none of that name.
pub fn run(name: &str, input: &[u8]) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, target) = found.expect("the programs of tests/fuzz have the names of targets");
    target(input);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn files(folder: &str) -> Vec<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(folder);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn stems(folder: &str) -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        files(folder).into_iter().map(stem).collect()
    }

    #[test]
    fn whatever_was_kept_of_the_fuzzing_still_holds() {
        for (name, target) in TARGETS {
            let inputs = files(&format!("corpus/{name}"));
            assert!(inputs.len() > 3, "{name}: hardly anything was kept");
            for input in inputs {
                let bytes = fs::read(&input).unwrap();
                // Its name is in the output of the test that fails.
                println!("{}", input.display());
                target(&bytes);
            }
        }
    }

    #[test]
    fn little_is_kept_of_each_target() {
        for (name, _) in TARGETS {
            let inputs = files(&format!("corpus/{name}"));
            let bytes: u64 = inputs.iter().map(|input| fs::metadata(input).unwrap().len()).sum();
            assert!(inputs.len() <= 60 && bytes <= 100_000, "{name}: {} inputs, {bytes} bytes", inputs.len());
        }
    }

    #[test]
    fn each_target_has_its_program_and_its_corpus() {
        let names: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(stems("targets"), names);
        assert_eq!(stems("corpus"), names);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        for name in &names {
            let program = fs::read_to_string(folder.join(format!("targets/{name}.rs"))).unwrap();
            assert!(program.contains(&format!("fuzz::run(\"{name}\", input)")), "{name}: {program}");
            let listed = format!("name = \"{name}\"\npath = \"targets/{name}.rs\"\n");
            assert!(manifest.contains(&listed), "{name} is not in tests/fuzz/Cargo.toml");
        }
        assert_eq!(manifest.matches("[[bin]]").count(), names.len());
    }
}
