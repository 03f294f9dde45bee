//! Runs every fuzz target over its seeds, so that what fuzzing once found stays found.

use std::{fs, path::PathBuf};

use tickwire_proto::fuzzing;

/// A target's name, which is also its file's and its folder's, and what it runs.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("decimal", fuzzing::decimal),
    ("frame_boundary", fuzzing::frame_boundary),
    ("host_entry", fuzzing::host_entry),
    ("json_request", fuzzing::json_request),
    ("json_tick", fuzzing::json_tick),
    ("sbe_message", fuzzing::sbe_message),
    ("session_ops", fuzzing::session_ops),
    ("upgrade_head", fuzzing::upgrade_head),
];

fn fuzz_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn seeds_break_no_invariant() {
    for (name, target) in TARGETS {
        let mut seeds = 0;
        for entry in fs::read_dir(fuzz_folder().join("seeds").join(name)).unwrap() {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has no seeds");
    }
}

#[test]
fn every_target_is_run_here() {
    let mut files: Vec<String> = fs::read_dir(fuzz_folder().join("fuzz_targets"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    files.sort();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(files, names);
}
