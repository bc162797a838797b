//! The checked-in Rust types are those that the schema in `proto/` gives.

use std::fs;
use std::path::{Path, PathBuf};

/// Generates the types into a directory of the test's own.
fn generate(root: &Path) -> PathBuf {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    fs::create_dir_all(&out).expect("a directory for the generated files");
    let schema = protox::compile(["remote.proto", "actor.proto"], [root.join("proto")]).expect("a schema");
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .out_dir(&out)
        .compile_fds_with_config(schema, config)
        .expect("types of the schema");
    out
}

/// Covers: SER-02
#[test]
fn the_types_are_those_of_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = generate(root);
    for file in ["actor.rs", "remote.rs"] {
        let (fresh, kept) = (made.join(file), root.join("src/wire/proto").join(file));
        let fresh = fs::read_to_string(fresh).expect("a generated file");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            fs::write(&kept, &fresh).expect("a file to write");
        }
        let kept = fs::read_to_string(&kept).expect("the file in src/wire/proto");
        assert!(fresh == kept, "src/wire/proto/{file} is stale: run this test with UPDATE_GENERATED=1");
    }
}
