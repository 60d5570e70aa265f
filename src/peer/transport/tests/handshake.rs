//! Clients connect, whatever their network does to the handshake.

use super::*;

#[test]
fn clients_connect_in_both_roles_and_with_the_best_profile_they_have() {
    for server_role in ROLES {
        for (profiles, agreed) in [
            (Profiles::Firefox, SrtpProfile::AeadAes128Gcm),
            (Profiles::CmOnly, SrtpProfile::Aes128CmHmacSha1_80),
        ] {
            let options = ClientOptions { profiles, ..as_role(server_role) };
            let mut world = World::connected(options);
            assert_eq!(world.transport.srtp_profile(), Some(agreed), "{options:?}");
            assert_eq!(world.connected_events, 1);
            assert!(world.exchange(1) && world.exchange(2), "{options:?}");
        }
    }
}

#[test]
fn gcm_wins_over_chromiums_order_where_the_server_decides() {
    let world = World::connected(as_role(DtlsRole::Server));
    assert_eq!(world.transport.srtp_profile(), Some(SrtpProfile::AeadAes128Gcm));
}

#[test]
fn a_client_with_an_rsa_certificate_connects() {
    for server_role in ROLES {
        let options = ClientOptions { key: ClientKey::Rsa, ..as_role(server_role) };
        assert!(World::connected(options).exchange(1), "{server_role:?}");
    }
}

#[test]
fn flights_in_many_small_fragments_are_put_together() {
    for server_role in ROLES {
        let options = ClientOptions { mtu: 90, ..as_role(server_role) };
        assert!(World::connected(options).exchange(1), "{server_role:?}");
    }
}

#[test]
fn a_client_without_a_common_profile_is_refused() {
    for server_role in ROLES {
        let profiles = Profiles::Gcm256Only;
        let mut world = World::new(ClientOptions { profiles, ..as_role(server_role) });
        world.run(ms(11_000));
        let state = world.transport.state();
        assert!(matches!(state, State::Ended(EndReason::HandshakeFailed(_))), "{state:?}");
    }
}

#[test]
fn each_dtls_datagram_may_be_lost_once() {
    for server_role in ROLES {
        let sent = World::connected(as_role(server_role)).dtls_sent;
        assert!(sent.iter().sum::<usize>() >= 4, "{server_role:?} {sent:?}");
        for to in [To::Server, To::Client] {
            for lost in 0..sent[to as usize] {
                let mut world = World::new(as_role(server_role));
                world.lose = Box::new(move |way, number| (way, number) == (to, lost));
                world.run(ms(2_000));
                let case = format!("{server_role:?}: datagram {lost} to {to:?} lost");
                assert_eq!(world.transport.state(), &State::Connected, "{case}");
                assert!(world.client.is_connected() && world.exchange(1), "{case}");
            }
        }
    }
}

#[test]
fn a_finished_that_is_sent_again_is_no_replay() {
    let mut world = World::new(as_role(DtlsRole::Client));
    world.lose = Box::new(|to, number| to == To::Server && number >= 2);
    let mut numbers = Vec::new();
    for _ in 0..300 {
        world.run(ms(10));
        for in_flight in world.link.iter().filter(|in_flight| in_flight.to == To::Client) {
            let finished = records(&in_flight.datagram).filter(|record| record.epoch == 1);
            numbers.extend(finished.map(|record| record.whole[5..11].to_vec()));
        }
    }
    numbers.dedup();
    let sent = numbers.len();
    numbers.sort();
    numbers.dedup();
    assert!(sent >= 3, "{sent}");
    assert_eq!(numbers.len(), sent, "each has a number of its own");
}

#[test]
fn clients_connect_at_15_percent_loss() {
    for server_role in ROLES {
        for seed in 0..24 {
            let mut world = World::new(as_role(server_role));
            let mut random = random(seed);
            world.lose = Box::new(move |_, _| random() % 100 < 15);
            world.run(ms(9_000));
            let case = format!("{server_role:?}: seed {seed}");
            assert_eq!(world.transport.state(), &State::Connected, "{case}");
            assert!(world.client.is_connected() && world.exchange(1), "{case}");
        }
    }
}

#[test]
fn an_impostor_gets_no_media_and_none_of_its_own_is_taken() {
    for server_role in ROLES {
        let mut world = World::new(ClientOptions { impostor: true, ..as_role(server_role) });
        world.run(ms(3_000));
        let ended = State::Ended(EndReason::FingerprintMismatch);
        assert_eq!(world.transport.state(), &ended, "{server_role:?}");
        assert!(world.transport.sealer().is_none());
        assert_eq!(world.connected_events, 0);
        assert_eq!(world.transport.srtp_profile(), None);
        if world.client.is_connected() {
            assert!(world.client.closed, "who believed to be connected is told otherwise");
            let packet = world.client.seal(&rtp(1));
            world.send(To::Server, world.path, packet);
            world.run(ms(100));
        } else {
            assert_eq!(server_role, DtlsRole::Server);
        }
        assert_eq!(world.opened, [0, 0]);
    }
}

#[test]
fn the_client_may_move_to_another_address_in_mid_handshake() {
    for server_role in ROLES {
        for moved_after in (20..90).step_by(10) {
            let mut world = World::new(as_role(server_role));
            world.delay = ms(20);
            world.run(ms(moved_after));
            world.path = path(6_000);
            world.next_check = world.now;
            world.run(ms(2_000));
            let case = format!("{server_role:?}: moved after {moved_after} ms");
            assert_eq!(world.transport.state(), &State::Connected, "{case}");
            assert_eq!(world.transport.path(), Some(path(6_000)), "{case}");
            assert!(world.exchange(1), "{case}");
        }
    }
}
