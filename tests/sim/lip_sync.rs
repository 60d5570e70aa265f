//! Sound and picture stay together: the sender reports put both on one clock.

use crate::camera::Camera;
use crate::publisher::Publishing;
use crate::sessions::{ssrc, viewer_ssrc};
use crate::viewer::Screen;
use crate::world::{World, ms, secs};
use millrace::media::codec::Kind;
use millrace::media::time::{WallTime, micros_of_ticks};
use rtc_rtcp::sender_report::SenderReport;
use std::time::Duration;

/// The wall time that a report gives to a timestamp.
fn wall_of(report: &SenderReport, timestamp: u32, clock_rate: u32) -> WallTime {
    let ticks = timestamp.wrapping_sub(report.rtp_time).cast_signed();
    let micros = micros_of_ticks(i64::from(ticks), clock_rate);
    WallTime::from_ntp(report.ntp_time).offset_micros(micros)
}

#[test]
fn sound_and_picture_of_one_moment_get_the_same_wall_time_whatever_the_jitter() {
    for (seed, jitter) in [(41, 0), (44, 20), (43, 60)] {
        let mut world = World::seeded(seed);
        let camera = world.publish("lot-42", Camera::default());
        world.clients[camera].up.jitter = ms(jitter);
        world.run_for(secs(1));
        let viewer = world.view("lot-42", Screen::default());
        world.run_for(secs(10));
        let reports = &world.viewer(viewer).reports;
        let of = |kind| {
            let ssrc = ssrc(viewer_ssrc(viewer), kind);
            reports.iter().filter(move |(_, report)| report.ssrc == ssrc)
        };
        assert!(of(Kind::Video).count() >= 9, "one a second");
        for (at, video) in of(Kind::Video) {
            let both = of(Kind::Audio).find(|(same, _)| same == at);
            let (_, audio) = both.expect("sound is reported together with the picture");
            // What is captured a while after the publisher began.
            for moment in [ms(0), ms(12_345), secs(60)] {
                let [audio, video] = [(Kind::Audio, audio, 48_000), (Kind::Video, video, 90_000)]
                    .map(|(kind, report, rate)| {
                        wall_of(report, Publishing::timestamp(kind, moment), rate)
                    });
                let apart = audio.micros_since(video).abs();
                assert!(apart <= 1_000, "jitter {jitter} ms: {apart} us apart");
            }
        }
        assert_on_the_servers_clock(&world, viewer, ms(jitter));
    }
}

/// The wall time of a picture is when it would have come to the server on the quickest way; the
/// quickest of the reports is not the quickest of all.
fn assert_on_the_servers_clock(world: &World, viewer: usize, jitter: Duration) {
    let watching = world.viewer(viewer);
    let ssrc = ssrc(viewer_ssrc(viewer), Kind::Video);
    let reports = watching.reports.iter().rfind(|(_, report)| report.ssrc == ssrc);
    let (_, report) = reports.expect("the picture is reported");
    for got in watching.got[Kind::Video.index()].iter().rev().take(100) {
        let wall = wall_of(report, got.timestamp, 90_000);
        // It left the server ten milliseconds before, and may have waited four in a batch.
        let waited = world.epoch.wall_of(got.at).micros_since(wall) - 10_000;
        let jitter = jitter.as_micros() as i64;
        assert!((-1_000 - jitter / 2..=jitter + 5_000).contains(&waited), "{waited} us");
    }
}
