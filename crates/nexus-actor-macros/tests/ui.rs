//! Errors point at the user's line and say what to write.

#[test]
fn errors_point_at_the_users_line() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
