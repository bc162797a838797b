//! Errors point at the user's line and say what to write.

use std::process::Command;

/// Errors that the macros themselves make: the same words under every compiler.
#[test]
fn errors_point_at_the_users_line() {
    let cases = trybuild::TestCases::new();
    for case in ["actor_block", "actor_methods", "message_attributes", "message_generic", "message_protobuf"]
    {
        cases.compile_fail(format!("tests/ui/{case}.rs"));
    }
}

/// Errors of the compiler about generated code. Their words are the compiler's, so they are compared under the
/// one that wrote them.
#[test]
fn errors_of_the_compiler_point_at_the_users_line() {
    const WRITTEN_BY: &str = "rustc 1.95.";
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("rustc says its version").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(WRITTEN_BY) {
        println!("skipped: the expected texts are those of {WRITTEN_BY}x, this is {version}");
        return;
    }
    let cases = trybuild::TestCases::new();
    for case in [
        "actor_not_send",
        "actor_without_serde",
        "message_missing",
        "message_no_protobuf",
        "message_without_serde",
    ] {
        cases.compile_fail(format!("tests/ui/{case}.rs"));
    }
}
