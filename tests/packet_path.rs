//! A forwarded packet allocates nothing, from socket to socket. A binary of its own, because a
//! process has one allocator, and this one counts.

#[path = "support/allocations.rs"]
mod allocations;
#[path = "support/audience.rs"]
mod audience;
#[path = "support/sessions.rs"]
mod sessions;
#[path = "support/through.rs"]
mod through;

use through::Through;

#[test]
fn a_forwarded_packet_allocates_nothing_from_socket_to_socket() {
    const VIEWERS: usize = 10;
    let mut through = Through::new(VIEWERS);
    // Four seconds: all memory that a running stream holds is there once its history is full.
    through.pictures(120);
    let outcome = through.pictures(150);
    assert_eq!(outcome.packets_in, 150 * 9);
    assert_eq!(outcome.packets_out, outcome.packets_in * VIEWERS as u64, "all arrive");
    assert_eq!(outcome.allocations, 0, "{outcome:?}");
}
