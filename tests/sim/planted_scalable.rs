//! Faults in what is left out of an encoding that the server does not have: the oracle finds each,
//! and nothing where there is none.

use crate::agreed::DESCRIBED;
use crate::camera::Camera;
use crate::lot::Lot;
use crate::oracle::Rule;
use crate::planted::Packets;
use crate::scalable::Mode;
use crate::wire::Plant;
use crate::world::secs;
use millrace::codec::descriptor::Descriptor;
use millrace::media::codec::{Codec, Kind};
use millrace::peer::header::RtpHeader;

/// Ana, who watches.
const ANA: usize = 1;
/// So many packets of the picture are as they are: by then the stream flows, and something is left
/// out of it.
const SOUND: usize = 1_000;

/// What becomes of a packet.
enum Becomes {
    /// It is sent, changed perhaps.
    Sent,
    /// It is not, and the numbers close up behind it.
    LeftOut,
    /// It is, and a number before it is not.
    Behind,
}

/// VP8 with three temporal layers, about 1,000 kb/s.
fn temporal() -> Camera {
    let (packets, payload_bytes, mode) = (4, 1_100, Mode::L1T3);
    Camera { codec: Codec::Vp8, packets, payload_bytes, mode, ..Camera::default() }
}

/// VP9 with three spatial ones as well, about 2,100 kb/s.
fn spatial() -> Camera {
    Camera { codec: Codec::Vp9, packets: 8, mode: Mode::L3T3KEY, ..temporal() }
}

/// With the fault the oracle finds this rule broken, without it none: over a link of this rate. The
/// fault is told which packet of the picture this is, and what its descriptor says.
fn assert_caught(
    rule: Rule,
    (camera, rate): (Camera, u64),
    mut fault: impl FnMut(usize, &mut [u8], &Descriptor) -> Becomes + 'static,
) {
    let (mut seen, mut moved) = (0, 0);
    let plant: Plant = Box::new(move |departing, clients| {
        let mut packets = Packets { departing, clients };
        let Some(mut plain) = packets.media(ANA, Kind::Video) else { return packets.same() };
        seen += 1;
        if seen > SOUND {
            let header = RtpHeader::read(&plain).expect("a packet");
            let payload = header.payload(&plain).expect("a payload");
            let says = Descriptor::read(camera.codec, payload).unwrap_or_default();
            match fault(seen - SOUND, &mut plain, &says) {
                Becomes::Sent => {}
                Becomes::LeftOut => {
                    moved -= 1;
                    return Vec::new();
                }
                Becomes::Behind => moved += 1,
            }
        }
        let sequence = u16::from_be_bytes([plain[2], plain[3]]).wrapping_add_signed(moved);
        plain[2..4].copy_from_slice(&sequence.to_be_bytes());
        packets.instead(&plain)
    });
    for (plant, expected) in [(None, None), (Some(plant), Some(rule))] {
        let mut lot = Lot::viewed(810, camera, 5_000);
        lot.world.strict = false;
        lot.world.plant = plant;
        lot.world.run_for(secs(2));
        lot.rate(rate);
        lot.world.run_for(secs(14));
        let found = lot.world.oracle.violations.first();
        assert_eq!(found.map(|found| found.rule), expected, "{:?}", found.map(ToString::to_string));
    }
}

#[test]
fn a_number_for_a_frame_that_is_left_out() {
    assert_caught(Rule::Gap, (temporal(), 750), |seen, _, _| {
        if seen == 1 { Becomes::Behind } else { Becomes::Sent }
    });
}

#[test]
fn a_frame_that_others_refer_to_is_left_out() {
    // The first whole one of the middle layer, all of which the highest needs.
    let mut left_out = None;
    assert_caught(Rule::Reference, (temporal(), 5_000), move |seen, plain, says| {
        let timestamp = u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]);
        if seen > 8 && says.temporal == 1 && says.begins {
            left_out.get_or_insert(timestamp);
        }
        if left_out == Some(timestamp) { Becomes::LeftOut } else { Becomes::Sent }
    });
}

#[test]
fn a_frame_of_the_lowest_layer_is_left_out() {
    let mut left_out = None;
    assert_caught(Rule::Missing, (temporal(), 750), move |seen, plain, says| {
        let timestamp = u32::from_be_bytes([plain[4], plain[5], plain[6], plain[7]]);
        if seen > 8 && says.temporal == 0 && says.begins {
            left_out.get_or_insert(timestamp);
        }
        if left_out == Some(timestamp) { Becomes::LeftOut } else { Becomes::Sent }
    });
}

#[test]
fn a_picture_id_that_is_skipped() {
    assert_caught(Rule::Numbers, (temporal(), 750), |_, plain, says| {
        let picture = says.picture_id.expect("VP8 has one here");
        let at = plain.len()
            - RtpHeader::read(plain).and_then(|it| it.payload(plain)).map_or(0, <[u8]>::len);
        let moved = (picture.value.wrapping_add(1) | 0x8000).to_be_bytes();
        plain[at + usize::from(picture.at)..][..2].copy_from_slice(&moved);
        Becomes::Sent
    });
}

#[test]
fn a_frame_number_that_is_moved_otherwise_than_those_before() {
    let camera = Camera { codec: Codec::Av1, ..spatial() };
    assert_caught(Rule::Numbers, (camera, 1_200), |_, plain, _| {
        let header = RtpHeader::read(plain).expect("a packet");
        let value = header.extension(plain, DESCRIBED).expect("it is described");
        let at = value.as_ptr() as usize - plain.as_ptr() as usize;
        plain[at + 2] = plain[at + 2].wrapping_add(1);
        Becomes::Sent
    });
}

#[test]
fn a_picture_of_fewer_spatial_layers_that_nothing_ends() {
    assert_caught(Rule::Marker, (spatial(), 1_200), |_, plain, _| {
        plain[1] &= 0x7f;
        Becomes::Sent
    });
}
