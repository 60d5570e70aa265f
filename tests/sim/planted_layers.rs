//! Faults of selection and estimation that the server does not have: the oracle finds each, and
//! nothing where there is none.

use crate::camera::Camera;
use crate::link::Link;
use crate::lot::{Lot, browser, kbps};
use crate::oracle::Rule;
use crate::planted::Packets;
use crate::sessions::{rtx_payload_type, rtx_ssrc, ssrc, viewer_ssrc};
use crate::viewer::Screen;
use crate::wire::{Departing, Plant};
use crate::world::{ms, secs};
use millrace::engine::command::{Command, Event, LayerChoice};
use millrace::media::codec::Kind;
use millrace::peer::header::RtpHeader;
use millrace::peer::stun::{DatagramKind, classify};

/// Ana, who watches.
const ANA: usize = 1;

/// She is moved from the best layer to the next, as that stops, and back.
fn lot() -> Lot {
    let mut lot = Lot::new(801, Camera { group: 120, ..browser() });
    lot.world.strict = false;
    lot.view(Screen::default(), 20_000);
    assert_eq!(lot.ana(), ANA);
    lot
}

fn run(lot: &mut Lot) {
    lot.world.run_for(secs(6));
    lot.stop(2, true);
    lot.world.run_for(secs(5));
    lot.stop(2, false);
    lot.world.run_for(secs(9));
}

fn assert_first(lot: &Lot, expected: Option<Rule>) {
    let found = lot.world.oracle.violations.first();
    assert_eq!(found.map(|found| found.rule), expected, "{:?}", found.map(ToString::to_string));
}

/// With the fault the oracle finds this rule broken, without it none.
fn assert_caught(rule: Rule, plant: impl FnMut(Packets<'_>) -> Vec<Departing> + 'static) {
    let mut plant = plant;
    let wrapped: Plant = Box::new(move |departing, clients| plant(Packets { departing, clients }));
    for (plant, expected) in [(None, None), (Some(wrapped), Some(rule))] {
        let mut lot = lot();
        lot.world.plant = plant;
        run(&mut lot);
        assert_first(&lot, expected);
    }
}

/// Tells where another layer begins: by its sequence parameter set, which tells another size.
#[derive(Default)]
struct Moves {
    size: Option<Vec<u8>>,
    /// How often that was.
    moved: i16,
}

impl Moves {
    /// Looks at a packet of the picture; whether the viewer goes on to another layer with it.
    fn look(&mut self, plain: &[u8]) -> bool {
        let payload = RtpHeader::read(plain).and_then(|header| header.payload(plain));
        let Some(payload) = payload.filter(|payload| payload.first() == Some(&0x67)) else {
            return false;
        };
        let size = payload[..payload.len() - 10].to_vec();
        let moves = self.size.as_ref().is_some_and(|before| *before != size);
        self.size = Some(size);
        self.moved += i16::from(moves);
        moves
    }
}

fn renumber(plain: &mut [u8], by: i16) {
    let sequence = u16::from_be_bytes([plain[2], plain[3]]).wrapping_add_signed(by);
    plain[2..4].copy_from_slice(&sequence.to_be_bytes());
}

#[test]
fn another_layer_without_the_beginning_of_its_keyframe() {
    let mut moves = Moves::default();
    assert_caught(Rule::Keyframe, move |mut packets| {
        let Some(mut plain) = packets.media(ANA, Kind::Video) else { return packets.same() };
        if moves.look(&plain) {
            return Vec::new();
        }
        renumber(&mut plain, -moves.moved);
        packets.instead(&plain)
    });
}

#[test]
fn the_timestamps_of_another_layer_as_its_publisher_has_them() {
    let mut moves = Moves::default();
    assert_caught(Rule::Timestamp, move |mut packets| {
        let Some(mut plain) = packets.media(ANA, Kind::Video) else { return packets.same() };
        moves.look(&plain);
        let timestamp = u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]);
        let off = if moves.moved == 1 { 1_234_567_890 } else { 0 };
        plain[4..8].copy_from_slice(&timestamp.wrapping_sub(off).to_be_bytes());
        packets.instead(&plain)
    });
}

#[test]
fn a_layer_that_has_stopped_and_is_not_left() {
    let mut moves = Moves::default();
    assert_caught(Rule::Stopped, move |mut packets| {
        let Some(plain) = packets.media(ANA, Kind::Video) else { return packets.same() };
        moves.look(&plain);
        if moves.moved > 0 { Vec::new() } else { packets.same() }
    });
}

#[test]
fn a_request_for_a_packet_of_before_that_is_answered_from_the_layer_of_now() {
    let (mut moves, mut answered) = (Moves::default(), false);
    assert_caught(Rule::Retransmission, move |mut packets| {
        let Some(plain) = packets.media(ANA, Kind::Video) else { return packets.same() };
        if !moves.look(&plain) || answered {
            return packets.same();
        }
        answered = true;
        let header = RtpHeader::read(&plain).expect("a packet");
        let before = header.sequence.wrapping_sub(3);
        let mut rtx = plain[..12].to_vec();
        rtx[0] = 0x80;
        rtx[1] = plain[1] & 0x80 | rtx_payload_type(Kind::Video);
        // Behind all that were sent, be it as probes.
        rtx[2..4].copy_from_slice(&0x9000_u16.to_be_bytes());
        rtx[8..12].copy_from_slice(&rtx_ssrc(viewer_ssrc(ANA), Kind::Video).to_be_bytes());
        rtx.extend(before.to_be_bytes());
        rtx.extend(header.payload(&plain).expect("a payload"));
        vec![packets.departing.clone(), packets.sealed(&rtx)]
    });
}

#[test]
fn a_probe_among_the_numbers_of_the_picture() {
    let (mut seen, mut added) = (0, 0);
    assert_caught(Rule::Keyframe, move |mut packets| {
        let Some(mut plain) = packets.media(ANA, Kind::Video) else { return packets.same() };
        renumber(&mut plain, added);
        seen += 1;
        // In the middle of a picture, so that what is sent once more is no beginning.
        if seen != 403 {
            return packets.instead(&plain);
        }
        added = 1;
        let mut probe = plain.clone();
        renumber(&mut probe, 1);
        vec![packets.sealed(&plain), packets.sealed(&probe)]
    });
}

#[test]
fn reports_that_put_the_picture_beside_its_sound() {
    assert_caught(Rule::LipSync, |packets: Packets<'_>| -> Vec<Departing> {
        let Departing { client, datagram, .. } = &packets.departing;
        if *client != ANA || classify(datagram) != DatagramKind::Rtcp {
            return packets.same();
        }
        let tap = packets.clients[ANA].tap().expect("it watches");
        let mut plain = tap.open_rtcp(datagram).expect("it is sealed for it");
        let picture = ssrc(viewer_ssrc(ANA), Kind::Video).to_be_bytes();
        // Sender reports (RFC 3550 §6.4.1), whose timestamp is moved by a fifth of a second.
        let found = (0..plain.len().saturating_sub(20)).step_by(4);
        for at in found.filter(|&at| at % 4 == 0).collect::<Vec<_>>() {
            if plain[at + 1] == 200 && plain[at + 4..at + 8] == picture {
                let timestamp = plain[at + 16..at + 20].try_into().map(u32::from_be_bytes);
                let moved = timestamp.expect("four bytes").wrapping_add(18_000);
                plain[at + 16..at + 20].copy_from_slice(&moved.to_be_bytes());
            }
        }
        let datagram = tap.seal_rtcp(&plain);
        vec![Departing { datagram, ..packets.departing }]
    });
}

#[test]
fn a_layer_above_the_estimate() {
    for (plants, expected) in [(false, None), (true, Some(Rule::Target))] {
        let mut lot = lot();
        if plants {
            lot.world.plant_event = Some(Box::new(|event| {
                if let Event::Layers { selection, .. } = event {
                    selection.estimate = Some(kbps(500));
                }
            }));
        }
        run(&mut lot);
        assert_first(&lot, expected);
    }
}

#[test]
fn layers_that_take_turns() {
    for (turns, expected) in [(false, None), (true, Some(Rule::Oscillation))] {
        let mut lot = lot();
        lot.world.run_for(secs(6));
        for turn in 0..8 {
            let rid = Some(if turns && turn % 2 == 0 { "h" } else { "f" }.to_owned());
            // The oracle is not told that anybody wishes for that.
            let choice = LayerChoice { rid, ..LayerChoice::default() };
            lot.world.command(Command::Choose(crate::sessions::session(ANA), choice));
            lot.world.run_for(ms(1_500));
        }
        assert_first(&lot, expected);
    }
}

#[test]
fn arrivals_whose_numbers_are_misread() {
    for (misreads, expected) in [(false, None), (true, Some(Rule::Overload))] {
        let mut lot = Lot::new(803, browser());
        lot.world.strict = false;
        let ana = lot.view(Screen::default(), 20_000);
        lot.world.run_for(secs(8));
        if misreads {
            // As they are after a turn of the numbering (its extension's base, two bytes).
            lot.watching(ana).garble = Some(|mut told| {
                told[12] ^= 0x40;
                told
            });
        }
        let link: &mut Link = lot.link();
        link.queue = secs(20);
        lot.rate(1_000);
        lot.world.run_for(secs(12));
        assert_first(&lot, expected);
    }
}
