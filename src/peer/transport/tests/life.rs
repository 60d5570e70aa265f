//! A session from its handshake to its end: consent, addresses, restarts of ICE.

use super::*;

#[test]
fn a_silent_client_loses_its_consent() {
    let mut world = World::connected(as_role(DtlsRole::Server));
    world.client_dies = Some(world.now);
    world.run(Duration::from_secs(26));
    assert_eq!(world.transport.state(), &State::Connected);
    let sent = world.dtls_sent[To::Client as usize];
    world.run(Duration::from_secs(5));
    assert_eq!(world.transport.state(), &State::Ended(EndReason::ConsentLost));
    assert_eq!(world.dtls_sent[To::Client as usize], sent, "nothing is sent any more");
    assert_eq!(world.transport.deadline(), None);
}

#[test]
fn media_is_a_sign_of_life_too() {
    let mut world = World::connected(as_role(DtlsRole::Server));
    world.next_check = world.now + Duration::from_secs(1_000);
    for sequence in 0..10 {
        world.run(Duration::from_secs(20));
        assert!(world.exchange(sequence));
    }
}

/// Media that a forged check has sent to a victim must not stay there because its owner lives.
#[test]
fn signs_of_life_from_elsewhere_are_no_consent_of_the_address_media_goes_to() {
    let mut world = World::connected(as_role(DtlsRole::Server));
    let mut forged = world.client.check(true);
    world.transport.handle(path(6_000), &mut forged, world.now, &mut world.arena);
    assert_eq!(world.transport.path(), Some(path(6_000)));
    world.next_check = world.now + Duration::from_hours(1);
    for sequence in 0..16 {
        let mut check = world.client.check(false);
        world.transport.handle(path(5_000), &mut check, world.now, &mut world.arena);
        let media = world.client.seal(&rtp(sequence));
        world.send(To::Server, path(5_000), media);
        world.run(Duration::from_secs(2));
    }
    assert_eq!(world.transport.state(), &State::Ended(EndReason::ConsentLost));
}

#[test]
fn a_client_that_never_shakes_hands_is_given_up() {
    let mut world = World::new(as_role(DtlsRole::Server));
    world.lose = Box::new(|to, _| to == To::Server);
    world.run(Duration::from_secs(11));
    assert_eq!(world.transport.state(), &State::Ended(EndReason::HandshakeTimeout));
}

#[test]
fn close_notify_ends_the_session_in_both_directions() {
    for server_role in ROLES {
        let mut world = World::connected(as_role(server_role));
        world.client.close(world.now);
        world.run(ms(100));
        let closed = State::Ended(EndReason::ClosedByClient);
        assert_eq!(world.transport.state(), &closed, "{server_role:?}");
        assert!(world.transport.sealer().is_none());

        let mut world = World::connected(as_role(server_role));
        world.transport.close(world.now, &mut world.arena);
        assert_eq!(world.arena.datagrams().count(), 1);
        world.run(ms(100));
        assert!(world.client.closed, "{server_role:?}");
        let closed = State::Ended(EndReason::ClosedByServer);
        assert_eq!(world.transport.state(), &closed);
    }
}

#[test]
fn media_follows_the_nomination() {
    let mut world = World::new(as_role(DtlsRole::Server));
    let check = |world: &mut World, port, nominate| {
        let mut check = world.client.check(nominate);
        world.transport.handle(path(port), &mut check, world.now, &mut world.arena);
        world.transport.path().map(|path| path.remote.port())
    };
    assert_eq!(check(&mut world, 1, false), Some(1));
    assert_eq!(check(&mut world, 2, false), Some(2));
    assert_eq!(check(&mut world, 1, true), Some(1));
    assert_eq!(check(&mut world, 3, false), Some(1));
    assert_eq!(check(&mut world, 3, true), Some(3));
}

#[test]
fn a_restart_keeps_the_old_credentials_until_the_new_ones_are_used() {
    let mut world = World::connected(as_role(DtlsRole::Server));
    let old = world.client.check(true);
    let renewed = Credentials { ufrag: "new".into(), pwd: "n".repeat(24) };
    assert!(world.transport.restart_ice(renewed.clone()));
    let answered = |world: &mut World, check: &[u8], port| {
        world.arena.clear();
        let mut check = check.to_vec();
        world.transport.handle(path(port), &mut check, world.now, &mut world.arena);
        !world.arena.is_empty()
    };
    assert!(answered(&mut world, &old, 5_000));
    world.client.server = renewed;
    world.path = path(7_000);
    let new = world.client.check(true);
    assert!(answered(&mut world, &new, 7_000));
    assert!(!answered(&mut world, &old, 5_000));
    assert_eq!(world.transport.path(), Some(path(7_000)));
    assert!(world.exchange(1), "DTLS and SRTP stay as they were");
}

#[test]
fn a_restart_whose_answer_is_lost_leaves_the_credentials_in_use_good() {
    let mut world = World::connected(as_role(DtlsRole::Server));
    let renewed = |name: &str| Credentials { ufrag: name.into(), pwd: name.repeat(24) };
    assert!(world.transport.restart_ice(renewed("a")), "those in use are kept");
    assert!(!world.transport.restart_ice(renewed("b")), "those never used are not");
    let check = |world: &mut World, server: Credentials| {
        world.client.server = server;
        let check = world.client.check(true);
        world.transport.is_authentic(&check)
    };
    assert!(check(&mut world, server_credentials()));
    assert!(check(&mut world, renewed("b")));
    assert!(!check(&mut world, renewed("a")));
}

#[test]
fn nobody_without_an_authentic_check_is_answered() {
    let mut world = World::new(as_role(DtlsRole::Server));
    world.client.server.pwd = "wrong".repeat(5);
    let mut forged = world.client.check(true);
    world.transport.handle(path(1), &mut forged, world.now, &mut world.arena);
    world.client.start(world.now);
    let mut hello = world.client.poll().expect("a hello");
    world.transport.handle(path(1), &mut hello, world.now, &mut world.arena);
    assert!(world.arena.is_empty());
    assert_eq!((world.transport.state(), world.transport.path()), (&State::New, None));
}

#[test]
fn a_replayed_packet_is_taken_once() {
    let mut world = World::connected(as_role(DtlsRole::Server));
    let packet = world.client.seal(&rtp(1));
    for _ in 0..3 {
        world.send(To::Server, world.path, packet.clone());
    }
    world.run(ms(100));
    assert_eq!(world.opened[To::Server as usize], 1);
}

#[test]
fn hello_and_media_in_one_turn_leave_in_that_order() {
    let mut world = World::new(as_role(DtlsRole::Server));
    while world.connected_events == 0 {
        world.flush();
        let next = world.link.front().map(|in_flight| in_flight.at);
        let due = [next, Some(world.next_check), world.client.deadline()];
        world.now = world.now.max(due.into_iter().flatten().min().expect("something to come"));
        // Like `step`, but what the transport says at the end stays in the arena.
        while world.connected_events == 0
            && world.link.front().is_some_and(|in_flight| in_flight.at <= world.now)
        {
            world.flush();
            let in_flight = world.link.pop_front().expect("just seen");
            world.deliver(in_flight);
        }
        if world.connected_events == 0 {
            world.step();
        }
    }
    let finished = world.arena.datagrams().last().map(|(_, bytes)| classify(bytes));
    assert_eq!(finished, Some(DatagramKind::Dtls), "our Finished is in the arena first");
}
