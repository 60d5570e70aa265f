//! Faults that the server does not have, planted between it and the network: the oracle finds each,
//! and nothing where there is none.

use crate::camera::Camera;
use crate::client::Client;
use crate::flood::flood;
use crate::oracle::Rule;
use crate::sessions::{payload_type, rtx_payload_type, settings, ssrc, viewer_ssrc};
use crate::viewer::Screen;
use crate::wire::{Departing, Plant};
use crate::world::{World, ms, secs};
use millrace::engine::EngineSettings;
use millrace::engine::command::Command;
use millrace::media::codec::Kind;
use millrace::peer::header::RtpHeader;
use millrace::peer::stun::{DatagramKind, classify};
use millrace::peer::testing::ClientOptions;
use rtc_rtcp::packet::{Packet, marshal};
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use std::net::SocketAddr;

const CAMERA: usize = 0;
/// Has RTX and asks again.
const ANA: usize = 1;
/// Has and does neither.
const BEN: usize = 2;
const SHARDS: usize = 2;

/// A publisher with two viewers.
fn lot(seed: u64) -> World {
    let mut world = World::sharded(seed, SHARDS);
    world.strict = false;
    world.publish("lot-42", Camera { group: 60, ..Camera::default() });
    world.view("lot-42", Screen { rtx: true, nack: true, ..Screen::default() });
    world.view("lot-42", Screen { rtx: false, nack: false, ..Screen::default() });
    world
}

/// The server stops, and all is over.
fn stop(world: &mut World) {
    (0..SHARDS).for_each(|shard| world.command_at(shard, Command::Stop));
    world.run_for(secs(1));
    world.assert_over();
}

/// The rule that the oracle found broken first.
fn first(world: &World) -> Option<Rule> {
    world.oracle.violations.first().map(|violation| violation.rule)
}

/// With the fault the oracle finds this rule broken, without it none.
fn assert_caught(rule: Rule, plant: impl FnMut(Packets<'_>) -> Vec<Departing> + 'static) {
    let mut plant = plant;
    let wrapped: Plant = Box::new(move |departing, clients| plant(Packets { departing, clients }));
    for (plant, expected) in [(None, None), (Some(wrapped), Some(rule))] {
        let mut world = lot(701);
        world.plant = plant;
        world.run_for(secs(5));
        stop(&mut world);
        let found = world.oracle.violations.first().map(ToString::to_string);
        assert_eq!(first(&world), expected, "{found:?}");
    }
}

/// A datagram that departs, and what is needed to make another of it.
pub(crate) struct Packets<'c> {
    pub(crate) departing: Departing,
    pub(crate) clients: &'c mut [Client],
}

impl Packets<'_> {
    /// A packet of this kind to this viewer, opened; nothing of others.
    pub(crate) fn media(&mut self, viewer: usize, kind: Kind) -> Option<Vec<u8>> {
        let Departing { client, datagram, .. } = &self.departing;
        if *client != viewer || classify(datagram) != DatagramKind::Rtp {
            return None;
        }
        let header = RtpHeader::read(datagram)?;
        if header.ssrc != ssrc(viewer_ssrc(viewer), kind) {
            return None;
        }
        self.clients[viewer].tap()?.open(datagram)
    }

    /// Another packet in its place.
    pub(crate) fn instead(&mut self, plain: &[u8]) -> Vec<Departing> {
        vec![self.sealed(plain)]
    }

    pub(crate) fn sealed(&mut self, plain: &[u8]) -> Departing {
        let tap = self.clients[self.departing.client].tap().expect("it was opened");
        Departing { datagram: tap.seal(plain), ..self.departing.clone() }
    }

    /// As it is.
    pub(crate) fn same(self) -> Vec<Departing> {
        vec![self.departing]
    }
}

/// Does something to one packet of video to a viewer, in a stream that flows.
fn once(
    viewer: usize,
    mut work: impl FnMut(&mut Packets<'_>, Vec<u8>) -> Vec<Departing> + 'static,
) -> impl FnMut(Packets<'_>) -> Vec<Departing> + 'static {
    let mut seen = 0;
    move |mut packets| match packets.media(viewer, Kind::Video) {
        None => packets.same(),
        Some(plain) => {
            seen += 1;
            if seen == 150 { work(&mut packets, plain) } else { packets.same() }
        }
    }
}

#[test]
fn a_nonce_that_is_used_again() {
    assert_caught(
        Rule::Nonce,
        once(ANA, |packets, mut plain| {
            let last = plain.len() - 1;
            plain[last] ^= 1;
            vec![packets.departing.clone(), packets.sealed(&plain)]
        }),
    );
}

#[test]
fn the_ssrc_of_another_viewer() {
    assert_caught(
        Rule::Ssrc,
        once(ANA, |packets, mut plain| {
            plain[8..12].copy_from_slice(&ssrc(viewer_ssrc(BEN), Kind::Video).to_be_bytes());
            packets.instead(&plain)
        }),
    );
}

#[test]
fn sound_under_the_payload_type_of_pictures() {
    assert_caught(Rule::PayloadType, |mut packets| {
        let Some(mut plain) = packets.media(ANA, Kind::Audio) else { return packets.same() };
        plain[1] = payload_type(Kind::Video);
        packets.instead(&plain)
    });
}

#[test]
fn a_keyframe_without_its_first_packet() {
    let mut begun = false;
    assert_caught(Rule::Keyframe, move |mut packets| {
        let is_first = packets.media(BEN, Kind::Video).is_some() && !begun;
        begun |= is_first;
        if is_first { Vec::new() } else { packets.same() }
    });
}

#[test]
fn a_packet_that_is_left_out() {
    assert_caught(Rule::Missing, once(BEN, |_, _| Vec::new()));
}

#[test]
fn a_number_that_is_left_out() {
    let mut seen = 0;
    assert_caught(Rule::Gap, move |mut packets| {
        let Some(mut plain) = packets.media(BEN, Kind::Video) else { return packets.same() };
        seen += 1;
        if seen < 150 {
            return packets.same();
        }
        let next = u16::from_be_bytes([plain[2], plain[3]]).wrapping_add(1);
        plain[2..4].copy_from_slice(&next.to_be_bytes());
        packets.instead(&plain)
    });
}

#[test]
fn two_packets_in_the_wrong_order() {
    let (mut held, mut seen) = (None, 0);
    assert_caught(Rule::Order, move |mut packets| {
        if packets.media(BEN, Kind::Video).is_none() {
            return packets.same();
        }
        seen += 1;
        match seen {
            500 => {
                held = Some(packets.departing);
                Vec::new()
            }
            501 => [packets.departing].into_iter().chain(held.take()).collect(),
            _ => packets.same(),
        }
    });
}

#[test]
fn packets_of_two_viewers_mixed_up() {
    let mut kept = None;
    assert_caught(Rule::Keys, move |packets: Packets<'_>| -> Vec<Departing> {
        let Departing { client, datagram, .. } = &packets.departing;
        if classify(datagram) != DatagramKind::Rtp {
            return packets.same();
        }
        if *client == ANA {
            kept = Some(datagram.clone());
            return packets.same();
        }
        match kept.take() {
            Some(datagram) => vec![Departing { datagram, ..packets.departing }],
            None => packets.same(),
        }
    });
}

#[test]
fn a_timestamp_of_the_past() {
    assert_caught(
        Rule::Timestamp,
        once(ANA, |packets, mut plain| {
            let timestamp = u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]);
            plain[4..8].copy_from_slice(&timestamp.wrapping_sub(90_000).to_be_bytes());
            packets.instead(&plain)
        }),
    );
}

#[test]
fn the_end_of_a_picture_unmarked() {
    assert_caught(Rule::Marker, |mut packets| {
        let Some(mut plain) = packets.media(BEN, Kind::Video) else { return packets.same() };
        plain[1] &= 0x7f;
        packets.instead(&plain)
    });
}

#[test]
fn bytes_that_nobody_sent() {
    assert_caught(
        Rule::Content,
        once(BEN, |packets, mut plain| {
            let last = plain.len() - 1;
            plain[last] ^= 1;
            packets.instead(&plain)
        }),
    );
}

#[test]
fn a_viewer_who_is_never_served() {
    assert_caught(Rule::Starved, |packets| {
        let is_media = classify(&packets.departing.datagram) == DatagramKind::Rtp;
        if is_media && packets.departing.client == BEN { Vec::new() } else { packets.same() }
    });
}

#[test]
fn a_viewer_who_is_served_no_more() {
    let mut seen = 0;
    assert_caught(Rule::Missing, move |mut packets| {
        seen += usize::from(packets.media(BEN, Kind::Video).is_some());
        if seen > 150 && packets.departing.client == BEN { Vec::new() } else { packets.same() }
    });
}

#[test]
fn media_before_the_certificate_is_checked() {
    let mut early = false;
    assert_caught(Rule::Session, move |packets| {
        let Departing { client, datagram, .. } = &packets.departing;
        let begins = *client == ANA && classify(datagram) == DatagramKind::Dtls && !early;
        early |= begins;
        let datagram = [0x80, payload_type(Kind::Video), 0, 1].repeat(10);
        let media = Departing { datagram, ..packets.departing.clone() };
        [packets.departing].into_iter().chain(begins.then_some(media)).collect()
    });
}

#[test]
fn media_to_where_no_check_came_from() {
    let nobody = SocketAddr::from(([203, 0, 113, 9], 9));
    assert_caught(
        Rule::Address,
        once(ANA, move |packets, _| {
            vec![Departing { remote: nobody, ..packets.departing.clone() }]
        }),
    );
}

#[test]
fn a_retransmission_of_another_packet() {
    assert_caught(
        Rule::Retransmission,
        once(ANA, |packets, plain| {
            let before = u16::from_be_bytes([plain[2], plain[3]]).wrapping_sub(3);
            let rtx = retransmission(&plain, before);
            vec![packets.departing.clone(), packets.sealed(&rtx)]
        }),
    );
}

/// A retransmission (RFC 4588) of this packet to Ana that says it had this number.
fn retransmission(plain: &[u8], number: u16) -> Vec<u8> {
    let header = RtpHeader::read(plain).expect("a packet");
    let mut rtx = plain[..12].to_vec();
    rtx[0] = 0x80;
    rtx[1] = plain[1] & 0x80 | rtx_payload_type(Kind::Video);
    rtx[2..4].copy_from_slice(&9_u16.to_be_bytes());
    rtx[8..12].copy_from_slice(&(viewer_ssrc(ANA) + 3).to_be_bytes());
    rtx.extend(number.to_be_bytes());
    rtx.extend(header.payload(plain).expect("a payload"));
    rtx
}

#[test]
fn a_report_of_another_clock() {
    assert_caught(Rule::Report, |packets: Packets<'_>| -> Vec<Departing> {
        let Departing { client, datagram, .. } = &packets.departing;
        if *client != ANA || classify(datagram) != DatagramKind::Rtcp {
            return packets.same();
        }
        let tap = packets.clients[ANA].tap().expect("it watches");
        let mut plain = tap.open_rtcp(datagram).expect("it is sealed for it");
        if plain[1] == 200 {
            plain[16] ^= 1; // the timestamp's first byte (RFC 3550 §6.4.1)
        }
        let datagram = tap.seal_rtcp(&plain);
        vec![Departing { datagram, ..packets.departing }]
    });
}

#[test]
fn a_publisher_that_is_asked_for_a_keyframe_with_each_picture() {
    assert_caught(Rule::KeyframeRequests, move |mut packets: Packets<'_>| -> Vec<Departing> {
        let is_end = packets.media(ANA, Kind::Video).is_some_and(|plain| plain[1] & 0x80 != 0);
        if !is_end {
            return packets.same();
        }
        let request: [Box<dyn Packet>; 1] = [Box::new(PictureLossIndication::default())];
        let compound = marshal(&request).expect("a compound");
        let remote = packets.clients[CAMERA].address;
        let tap = packets.clients[CAMERA].tap().expect("it publishes");
        let datagram = tap.seal_rtcp(&compound);
        vec![packets.departing, Departing { client: CAMERA, remote, datagram }]
    });
}

#[test]
fn retransmissions_without_end() {
    for (rtx_share, expected) in [(0.15, None), (1.0, Some(Rule::RtxShare))] {
        let mut world = World::with(702, EngineSettings { rtx_share, ..settings() });
        world.strict = false;
        let camera = Camera { payload_bytes: 1_000, ..Camera::default() };
        world.publish("lot-42", camera);
        world.view("lot-42", Screen::default());
        for _ in 0..50 {
            world.run_for(ms(100));
            flood(&mut world, ANA);
        }
        assert_eq!(first(&world), expected);
    }
}

#[test]
fn an_impostor_who_is_let_in() {
    for lets_in in [false, true] {
        let mut world = lot(703);
        // Whose certificate is another than the oracle has heard of passes for such a one.
        let options = ClientOptions { impostor: !lets_in, ..ClientOptions::default() };
        let impostor = world.view_with("lot-42", Screen::default(), &crate::agreed::VIDEO, options);
        world.oracle.suspect(impostor);
        world.run_for(secs(2));
        assert_eq!(first(&world), lets_in.then_some(Rule::Session));
        assert_eq!(world.ended(impostor).is_some(), !lets_in);
    }
}

#[test]
fn a_queue_that_nobody_empties() {
    for (mute, expected) in [(None, None), (Some(0), Some(Rule::Bounds))] {
        let mut world = lot(704);
        world.mute = mute;
        world.run_for(secs(2));
        assert_eq!(first(&world), expected);
    }
}

#[test]
fn a_session_that_never_ends() {
    for forgets in [false, true] {
        let mut world = lot(705);
        world.run_for(secs(2));
        world.command_at(0, Command::Stop);
        if !forgets {
            world.command_at(1, Command::Stop);
        }
        world.run_for(secs(1));
        world.assert_over();
        assert_eq!(first(&world), forgets.then_some(Rule::Ending));
    }
}

#[test]
fn a_session_that_leaves_something_behind() {
    for leaves in [false, true] {
        let mut world = lot(706);
        world.run_for(secs(2));
        stop(&mut world);
        if leaves {
            // It comes when the server has stopped, and the engine keeps it.
            let late = world.view("lot-42", Screen::default());
            world.run_for(ms(20));
            world.clients[late].dead = true;
            world.assert_over();
        }
        assert_eq!(first(&world), leaves.then_some(Rule::Ending));
    }
}
