//! What nobody should send harms nobody.

use super::*;

/// What a client sends in a session: a check, DTLS, media, reports.
fn specimens(world: &mut World) -> Vec<Vec<u8>> {
    let check = world.client.check(true);
    let media = world.client.seal(&rtp(9));
    let report = world.client.seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1]);
    let hello = {
        let options = as_role(DtlsRole::Server);
        let mut other = TestClient::new(options, server_credentials());
        other.start(world.now);
        other.poll().expect("a hello")
    };
    let alert = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let mut sealed_alert = alert.clone();
    sealed_alert[4] = 1;
    sealed_alert[12] = 26;
    sealed_alert.extend([7; 24]);
    vec![check, media, report, hello, alert, sealed_alert]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mutated_datagrams_never_end_a_session(
        as_client: bool,
        changes in prop::collection::vec(
            (0_usize..6, 0_usize..300, any::<u8>(), 0_usize..400),
            60,
        ),
    ) {
        let mut world = World::connected(as_role(ROLES[usize::from(as_client)]));
        let specimens = specimens(&mut world);
        for (which, at, byte, cut) in changes {
            let mut datagram = specimens[which].clone();
            let place = at % datagram.len();
            datagram[place] ^= byte | 1;
            datagram.truncate(cut.max(1));
            world.transport.handle(world.path, &mut datagram, world.now, &mut world.arena);
            world.now += ms(11);
        }
        world.run(ms(100));
        prop_assert_eq!(world.transport.state(), &State::Connected);
        prop_assert!(world.exchange(500));
    }

    #[test]
    fn garbage_in_mid_handshake_neither_ends_it_nor_stops_it(
        as_client: bool,
        first in prop::sample::select(vec![0_u8, 1, 20, 21, 22, 23, 24, 63, 128, 144, 200]),
        after in 0_u64..100,
        garbage in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        let mut world = World::new(as_role(ROLES[usize::from(as_client)]));
        world.run(ms(after));
        for _ in 0..5 {
            let mut datagram = garbage.clone();
            datagram[0] = first;
            let (path, now) = (world.path, world.now);
            world.transport.handle(path, &mut datagram, now, &mut world.arena);
            world.run(ms(3));
        }
        world.run(ms(2_000));
        prop_assert_eq!(world.transport.state(), &State::Connected);
    }

    #[test]
    fn forged_handshake_records_cost_bounded_memory_and_no_panic(
        as_client: bool,
        after in 0_u64..100,
        records in prop::collection::vec(
            (any::<u8>(), 0_u8..24, 0_u16..7, prop::collection::vec(any::<u8>(), 0..80)),
            1..80,
        ),
    ) {
        let mut world = World::new(as_role(ROLES[usize::from(as_client)]));
        world.run(ms(after));
        for (number, (sequence, kind, message, body)) in records.into_iter().enumerate() {
            let len = body.len() as u8;
            let mut datagram = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, number as u8, sequence];
            datagram.extend([0, len + 12, kind, 0, 0, len, 0, message as u8]);
            datagram.extend([0, 0, 0, 0, 0, len]);
            datagram.extend(body);
            let (path, now) = (world.path, world.now);
            world.transport.handle(path, &mut datagram, now, &mut world.arena);
        }
        world.run(ms(12_000));
        prop_assert!(matches!(world.transport.state(), State::Connected | State::Ended(_)));
    }
}
