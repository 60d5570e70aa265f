//! Clients connect over bad links.

use crate::camera::{Camera, OBS};
use crate::viewer::Screen;
use crate::world::{ROLES, World, ms, secs};
use millrace::media::codec::Kind;
use millrace::peer::agreement::DtlsRole;
use millrace::peer::stun::{DatagramKind, classify};
use std::cell::Cell;
use std::rc::Rc;

#[test]
fn twenty_four_clients_in_each_dtls_role_connect_at_15_percent_loss_each_way() {
    for (seed, role) in [(11, ROLES[0]), (12, ROLES[1])] {
        let mut world = World::seeded(seed);
        let viewers: Vec<_> =
            (0..24).map(|_| world.view_as("lot-42", Screen::default(), role)).collect();
        for &viewer in &viewers {
            let client = &mut world.clients[viewer];
            (client.up.loss, client.down.loss) = (0.15, 0.15);
        }
        world.run_for(secs(10));
        for viewer in viewers {
            let here = world.clients[viewer].peer.is_connected();
            assert!(here && world.connected(viewer), "{role:?}: viewer {viewer} connects");
            assert_eq!(world.ended(viewer), None);
        }
    }
}

/// Connects one viewer, losing the DTLS datagram of this number to or from the server; tells how
/// many there were each way.
fn connects(role: DtlsRole, lost: Option<(bool, usize)>) -> [usize; 2] {
    let mut world = World::seeded(13);
    let viewer = world.view_as("lot-42", Screen::default(), role);
    let client = &mut world.clients[viewer];
    let counts = [(); 2].map(|()| Rc::new(Cell::new(0)));
    for (link, up) in [(&mut client.up, true), (&mut client.down, false)] {
        let count = Rc::clone(&counts[usize::from(up)]);
        link.lose = Some(Box::new(move |datagram| {
            if classify(datagram) != DatagramKind::Dtls {
                return false;
            }
            count.set(count.get() + 1);
            lost == Some((up, count.get()))
        }));
    }
    world.run_for(ms(2_000));
    let here = world.clients[viewer].peer.is_connected();
    assert!(here && world.connected(viewer), "{role:?}: {lost:?} is lost");
    counts.map(|count| count.get())
}

#[test]
fn each_dtls_datagram_may_be_lost_once() {
    for role in ROLES {
        let [down, up] = connects(role, None);
        assert!(down >= 2 && up >= 2, "{role:?}: two flights each way, {down} and {up} datagrams");
        (1..=down).for_each(|number| _ = connects(role, Some((false, number))));
        (1..=up).for_each(|number| _ = connects(role, Some((true, number))));
    }
}

/// Nobody is owed what cannot be opened: a publisher that is the DTLS server may send for seconds
/// until the server has the end of the handshake too, and SRTP does not say that a numbering has
/// come around meanwhile (RFC 3711 §3.3.1).
#[test]
fn of_a_publisher_nothing_is_owed_whose_numbering_came_around_unheard() {
    for (unheard, hears) in [(100, true), (200, false)] {
        let mut world = World::seeded(14);
        let camera = world.publish("lot-42", Camera { ladder: OBS, ..Camera::default() });
        let viewer = world.view("lot-42", Screen::default());
        let is_media = |datagram: &[u8]| classify(datagram) == DatagramKind::Rtp;
        world.clients[camera].up.lose = Some(Box::new(is_media));
        while world.publisher(camera).sent[0].len() < unheard {
            world.run_for(ms(20));
        }
        world.clients[camera].up.lose = None;
        world.run_for(secs(5));
        let [sound, picture] = Kind::ALL.map(|kind| world.viewer(viewer).got[kind.index()].len());
        assert!((sound > 200) == hears && picture > 200, "{unheard}: {sound}, {picture}");
    }
}
