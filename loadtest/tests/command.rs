//! The command itself; that it is built with the tests is what the browser tests need.

use std::process::Command;

#[test]
fn a_file_without_pictures_is_refused_in_plain_words() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let run = Command::new(env!("CARGO_BIN_EXE_millrace-loadtest"))
        .args(["publish", "http://127.0.0.1:9/whip/test", "--annexb", manifest])
        .output()
        .expect("the command was built with this test");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("no H.264"), "{said}");
}
