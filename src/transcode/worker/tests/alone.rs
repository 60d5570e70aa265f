//! The program by itself: what it says to people, and that it ends with its server.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_millrace-transcode"))
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).stdin(Stdio::null()).output().expect("it was built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn asked_what_it_can_do_it_lists_all_that_this_machine_must_have() {
    let output = run(&["--probe"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    for wanted in [
        "decode opus ",
        "decode aac ",
        "decode mpeg ",
        "decode ac3 ",
        "encode opus ",
        "encode aac ",
        "decode h264 ",
        "decode h265 ",
        "decode vp8 ",
        "decode vp9 ",
        "decode av1 ",
        "encode h264 x264enc",
        "encode h264 openh264enc",
    ] {
        assert!(printed.lines().any(|line| line.starts_with(wanted)), "{wanted} in {printed}");
    }
}

#[test]
fn started_by_hand_it_says_who_starts_it() {
    let output = run(&[]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("the server starts this program"));
    let output = run(&["--help"]);
    assert!(!output.status.success() && text(&output.stderr).contains("--probe"));
}

#[test]
fn it_ends_when_the_servers_end_closes() {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let mut child = program()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .expect("it was built");
    drop(ours);
    // Whether it gets ready first or not, it ends; one that did not would be waited for for ever.
    child.wait().expect("a child of ours");
}
