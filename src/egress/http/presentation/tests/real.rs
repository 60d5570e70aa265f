//! What real encoders make, packaged, and read back by a real player without a warning.

use super::stream::{attribute, mixed, playlist, secs, settings, wall, whole};
use crate::egress::http::presentation::{Presentation, Rendition};
use crate::media::codec::Codec;
use crate::media::frame::{AudioCoding, Coding};
use crate::media::layer::LayerId;
use crate::media::sample::Sample;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("millrace-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// What a tool says, and what it complains of.
fn run(tool: &str, folder: &Path, arguments: &str) -> (String, String) {
    let mut command = Command::new(tool);
    command
        .current_dir(folder)
        .args(["-hide_banner", "-nostdin"].iter().take(usize::from(tool == "ffmpeg") * 2));
    let output = command.args(arguments.split_whitespace()).output().expect("it is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{tool} {arguments}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

/// Encodes a picture and a tone.
fn encode(folder: &Path, codecs: &str) {
    let arguments = format!(
        "-v error -f lavfi -i testsrc2=size=320x240:rate=25 -f lavfi -i sine=440:sample_rate=48000 \
         -t 7 -ac 2 -pix_fmt yuv420p -g 50 {codecs} -video_track_timescale 90000 in.mp4"
    );
    run("ffmpeg", folder, &arguments);
}

/// Its packets: time of presentation and of decoding, whether a decoder can start, where it is.
fn packets(folder: &Path, file: &str, stream: &str) -> Vec<(i64, i64, bool, usize, usize)> {
    let arguments = format!(
        "-v warning -select_streams {stream} -show_entries packet=pts,dts,flags,size,pos \
         -of default=nk=0:nw=1 {file}"
    );
    let (text, warnings) = run("ffprobe", folder, &arguments);
    assert_eq!(warnings, "", "{file}");
    let lines: Vec<&str> = text.lines().collect();
    let value = |line: &str| -> i64 {
        line.split('=').nth(1).and_then(|value| value.parse().ok()).unwrap_or_default()
    };
    lines
        .chunks_exact(5)
        .map(|lines| {
            let at = |index: usize| value(lines[index]);
            (at(0), at(1), lines[4].contains('K'), at(2) as usize, at(3) as usize)
        })
        .collect()
}

/// As they come out of a source.
fn samples(folder: &Path, stream: &str, coding: &Coding, scale: i64) -> Vec<Sample> {
    let media = Bytes::from(std::fs::read(folder.join("in.mp4")).expect("it was made"));
    let arrival = crate::clock::Clock::system().now();
    packets(folder, "in.mp4", stream)
        .into_iter()
        .map(|(present, decode, starts, size, position)| {
            let ticks = |time: i64| time * 90_000 / scale + secs(100.0);
            Sample {
                layer: LayerId::ONLY,
                coding: coding.clone(),
                decode_ticks: ticks(decode),
                present_ticks: ticks(present),
                wall: wall(ticks(present)),
                starts,
                arrival,
                data: media.slice(position..position + size),
            }
        })
        .collect()
}

/// Writes all that a presentation lists where a player can read it.
fn publish(made: &Presentation, folder: &Path, renditions: &[Rendition]) {
    let write =
        |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).expect("written");
    write("index.m3u8", made.multivariant("").expect("it plays").as_bytes());
    for rendition in renditions {
        let text = made.playlist(*rendition, false, "").expect("it plays");
        write(&rendition.playlist(), text.as_bytes());
        let read = playlist(made, *rendition);
        let mut all = whole(made, &read.segments[0].map).to_vec();
        write(&read.segments[0].map, &all);
        for segment in &read.segments {
            let (_, name) = segment.complete.clone().expect("it has ended");
            let bytes = whole(made, &name);
            write(&name, &bytes);
            all.extend(bytes);
        }
        write(&format!("{}.mp4", rendition.slug()), &all);
    }
}

/// Packages what these codecs make, and reads it back.
fn round(name: &str, codecs: &str, picture: Codec, sound: &AudioCoding) -> String {
    let folder = Folder::new(name);
    encode(&folder.0, codecs);
    let pictures = samples(&folder.0, "v", &Coding::Video(picture), 90_000);
    let frames = samples(&folder.0, "a", &Coding::Audio(sound.clone()), 48_000);
    let rendition = if *sound == AudioCoding::Opus { Rendition::Opus } else { Rendition::Aac };
    let mut made = Presentation::new(settings());
    made.begin("run", None);
    let all = mixed([pictures.clone(), frames]);
    let base = all[0].decode_ticks - secs(10.0);
    for sample in all {
        made.push(sample);
    }
    made.end();
    publish(&made, &folder.0, &[Rendition::VIDEO, rendition]);
    let expected: Vec<i64> = pictures.iter().map(|sample| sample.present_ticks - base).collect();
    let found = packets(&folder.0, "video.mp4", "v");
    assert_eq!(found.iter().map(|packet| packet.0).collect::<Vec<_>>(), expected);
    assert!(found.windows(2).all(|pair| pair[0].1 < pair[1].1), "decoded in order");
    let heard = packets(&folder.0, &format!("{}.mp4", rendition.slug()), "a");
    assert!(heard.windows(2).all(|pair| pair[0].1 < pair[1].1), "heard in order");
    // The players' view: both renditions, all pictures decoded, and nothing to complain of.
    let (_, warnings) = run(
        "ffmpeg",
        &folder.0,
        "-v warning -allowed_extensions ALL -i index.m3u8 -map 0 -f null -",
    );
    assert_eq!(warnings, "");
    made.multivariant("").expect("it plays")
}

const AAC: [u8; 2] = [0x11, 0x90];

#[test]
fn h264_with_b_frames_and_aac_are_read_back() {
    let codecs = "-c:v libx264 -preset ultrafast -bf 2 -x264-params repeat-headers=1 -c:a aac";
    let text = round("h264", codecs, Codec::H264, &AudioCoding::Aac(Arc::from(AAC)));
    let codecs = text.lines().find_map(|line| attribute(line, "CODECS"));
    assert!(codecs.is_some_and(|codecs| codecs.ends_with(",mp4a.40.2")), "{text}");
}

#[test]
fn h265_and_opus_are_read_back() {
    let codecs = "-c:v libx265 -preset ultrafast -tag:v hvc1 -x265-params \
                  log-level=error:repeat-headers=1:keyint=50 -c:a libopus";
    round("h265", codecs, Codec::H265, &AudioCoding::Opus);
}

#[test]
fn av1_is_read_back() {
    let codecs = "-c:v libaom-av1 -cpu-used 8 -usage realtime -b:v 200k -c:a aac";
    round("av1", codecs, Codec::Av1, &AudioCoding::Aac(Arc::from(AAC)));
}
