//! A stream goes on elsewhere: what another router begins with, or whoever takes the stream as it
//! comes in.

use super::Router;
use super::rtp_stream::RtpStream;
use super::time_line::TimeLine;
use crate::media::packet::Packet;
use std::sync::Arc;
use std::time::Instant;

impl Router {
    /// What another router needs to go on with this stream: the time line, and all video since the
    /// newest keyframe of each layer with the padding it went out with. Of a layer of which none is
    /// kept it is all that is: what has overtaken its keyframe is of use once that comes.
    pub fn past_and_present(&self) -> (TimeLine, Vec<(Arc<Packet>, u8)>) {
        let video = self.video.iter().flat_map(RtpStream::past_and_present);
        (self.time_line.clone(), video.collect())
    }

    /// What somebody who takes the stream as it comes in needs to go on with it: all video since
    /// the newest keyframe of each layer that the publisher sends, and the sound with it as far as
    /// that is kept, in the order of arrival.
    pub fn since_keyframe(&self) -> Vec<Arc<Packet>> {
        let video = self.sent().flat_map(RtpStream::since_keyframe);
        let video: Vec<_> = video.map(|(packet, _)| packet).collect();
        let since = video.iter().map(|packet| packet.arrival).min();
        let sound = self.audio.history.after(0).map(|(packet, _)| packet);
        let waiting = self.audio.batch.waiting().iter().map(|it| &it.packet);
        let sound = sound.chain(waiting).filter(|it| since.is_none_or(|since| it.arrival >= since));
        let mut packets: Vec<_> = sound.map(Arc::clone).collect();
        packets.extend(video);
        packets.sort_by_key(|packet| packet.arrival);
        packets
    }

    /// Goes on with the stream of another router, whose packets count as gone out.
    pub fn go_on(&mut self, time_line: TimeLine, packets: Vec<(Arc<Packet>, u8)>, now: Instant) {
        self.time_line = time_line;
        for (packet, padding) in packets {
            let lane = packet.lane();
            if self.stream_mut(lane).go_on(Arc::clone(&packet), padding) {
                self.shifts.packet(
                    lane,
                    packet.timestamp,
                    packet.codec.clock_rate(),
                    packet.arrival,
                );
                self.changed |= self.layers.packet(&packet);
            }
        }
        for stream in &mut self.video {
            if stream.cache.packets().next().is_some() {
                stream.keyframe.arrived(now);
                self.begins = false;
            }
        }
    }
}
