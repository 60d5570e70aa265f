//! Which of GStreamer's elements decode and encode pictures here, and how they are set up: each in
//! one row. The first of a table that works is taken.

use crate::elements::started;
use crate::ipc::picture::Codec;
use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;

/// An element that decodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decoder {
    /// The element.
    pub(crate) name: &'static str,
    properties: &'static [(&'static str, &'static str)],
}

/// One thread, since each more is a frame of delay; and nothing held back for the case that it may
/// have to be shown later, as they do who follow the standard strictly.
const LIBAV: &[(&str, &str)] =
    &[("max-threads", "1"), ("std-compliance", "normal"), ("output-corrupt", "false")];

/// The elements that decode a codec.
pub(crate) const fn decoders(codec: Codec) -> &'static [Decoder] {
    const fn row(
        name: &'static str,
        properties: &'static [(&'static str, &'static str)],
    ) -> Decoder {
        Decoder { name, properties }
    }
    match codec {
        Codec::H264 => const { &[row("avdec_h264", LIBAV), row("openh264dec", &[])] },
        Codec::H265 => const { &[row("avdec_h265", LIBAV), row("libde265dec", &[])] },
        Codec::Vp8 => const { &[row("avdec_vp8", LIBAV), row("vp8dec", &[("threads", "1")])] },
        Codec::Vp9 => const { &[row("avdec_vp9", LIBAV), row("vp9dec", &[("threads", "1")])] },
        Codec::Av1 => const { &[row("dav1ddec", &[("n-threads", "1")]), row("av1dec", &[])] },
    }
}

impl Decoder {
    /// The element, if it is there and opens.
    pub(crate) fn make(&self) -> Option<gst::Element> {
        made(self.name, self.properties)
    }
}

/// An element that encodes H.264.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The element.
    pub(crate) name: &'static str,
    /// The package of Debian and Ubuntu that has it.
    pub(crate) package: &'static str,
    /// How it wants pictures.
    pub(crate) format: gstreamer_video::VideoFormat,
    /// Profiles that it may make. All that play H.264 play constrained baseline, and WebRTC's
    /// answers promise it (RFC 7742 §6.2); those that call it otherwise make no B-frames either.
    pub(crate) profiles: &'static [&'static str],
    /// The properties that are the bit rate, and how many bits per second are one of it.
    rates: &'static [&'static str],
    unit: u32,
    properties: &'static [(&'static str, &'static str)],
}

/// Low latency everywhere: no B-frames, no looking ahead, one thread, one slice, a rate that holds
/// over less than half a second; keyframes when they are asked for and at no other time.
pub(crate) static ENCODERS: [Encoder; 4] = [
    Encoder {
        name: "nvh264enc",
        package: "gstreamer1.0-plugins-bad",
        format: gstreamer_video::VideoFormat::Nv12,
        profiles: &["constrained-baseline", "baseline", "main"],
        rates: &["bitrate", "max-bitrate"],
        unit: 1000,
        properties: &[
            ("preset", "low-latency-hq"),
            ("rc-mode", "cbr"),
            ("zerolatency", "true"),
            ("bframes", "0"),
            ("rc-lookahead", "0"),
            ("gop-size", "-1"),
            ("aud", "false"),
            ("repeat-sequence-header", "true"),
        ],
    },
    Encoder {
        name: "vah264enc",
        package: "gstreamer1.0-plugins-bad",
        format: gstreamer_video::VideoFormat::Nv12,
        profiles: &["constrained-baseline", "main"],
        rates: &["bitrate"],
        unit: 1000,
        properties: &[
            ("rate-control", "cbr"),
            ("b-frames", "0"),
            ("ref-frames", "1"),
            ("key-int-max", "1024"),
            ("aud", "false"),
            ("cc-insert", "false"),
        ],
    },
    Encoder {
        name: "x264enc",
        package: "gstreamer1.0-plugins-ugly",
        format: gstreamer_video::VideoFormat::I420,
        profiles: &["constrained-baseline"],
        rates: &["bitrate"],
        unit: 1000,
        properties: &[
            ("speed-preset", "superfast"),
            ("tune", "zerolatency"),
            ("pass", "cbr"),
            ("threads", "1"),
            ("bframes", "0"),
            ("vbv-buf-capacity", "400"),
            ("key-int-max", "1000000"),
            ("byte-stream", "true"),
            ("aud", "false"),
            // A change of scene would be a keyframe of this layer alone.
            ("option-string", "scenecut=0"),
        ],
    },
    Encoder {
        name: "openh264enc",
        package: "gstreamer1.0-plugins-bad",
        format: gstreamer_video::VideoFormat::I420,
        profiles: &["constrained-baseline"],
        rates: &["bitrate", "max-bitrate"],
        unit: 1,
        properties: &[
            ("usage-type", "camera"),
            ("complexity", "low"),
            ("rate-control", "bitrate"),
            ("multi-thread", "1"),
            ("slice-mode", "n-slices"),
            ("num-slices", "1"),
            ("gop-size", "1000000"),
            ("scene-change-detection", "false"),
            // Its quantizer alone does not hold the rate.
            ("enable-frame-skip", "true"),
            ("background-detection", "false"),
        ],
    },
];

/// The encoders that may make a layer: the one of that name, or all where it is empty.
///
/// # Errors
///
/// Where nothing here knows how to set up an element of that name.
pub(crate) fn encoders(name: &str) -> anyhow::Result<Vec<&'static Encoder>> {
    let rows: Vec<_> = ENCODERS.iter().filter(|row| name.is_empty() || row.name == name).collect();
    let known: Vec<_> = ENCODERS.iter().map(|row| row.name).collect();
    anyhow::ensure!(!rows.is_empty(), "{name} is none of {}", known.join(", "));
    Ok(rows)
}

/// Loads the encoders that are here, so that the first layer need not wait for that.
pub(crate) fn load() {
    for row in &ENCODERS {
        if let Some(factory) = gst::ElementFactory::find(row.name) {
            // Whoever needs one that cannot be loaded is told so then.
            let _ = factory.load();
        }
    }
}

impl Encoder {
    /// The element, if it is there and opens.
    pub(crate) fn make(&self) -> Option<gst::Element> {
        made(self.name, self.properties)
    }

    /// Says how many bits per second it may make; at any time.
    pub(crate) fn set_rate(&self, element: &gst::Element, bitrate_bps: u32) {
        let rate = (bitrate_bps / self.unit).max(1).to_string();
        for name in self.rates {
            set(element, name, &rate);
        }
    }
}

fn made(name: &str, properties: &[(&str, &str)]) -> Option<gst::Element> {
    let element = gst::ElementFactory::make(name).build().ok()?;
    for (name, value) in properties {
        set(&element, name, value);
    }
    started(element)
}

/// Sets a property, if the element has it and takes the value: their names and words differ from
/// one version to the next.
pub(crate) fn set(element: &gst::Element, name: &str, value: &str) {
    let Some(property) = element.find_property(name) else { return };
    if let Ok(value) = glib::Value::deserialize_with_pspec(value, &property) {
        element.set_property_from_value(name, &value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_of_an_element_that_is_here_is_one_of_its_own() {
        gst::init().expect("GStreamer is there");
        let decoders = Codec::ALL.into_iter().flat_map(decoders);
        let decoders = decoders.map(|row| (row.name, row.properties));
        let encoders = ENCODERS.iter().map(|row| (row.name, row.properties));
        for (name, properties) in decoders.chain(encoders) {
            let Ok(element) = gst::ElementFactory::make(name).build() else { continue };
            for (property, value) in properties {
                let found = element.find_property(property);
                let read = found.map(|it| glib::Value::deserialize_with_pspec(value, &it));
                assert!(matches!(read, Some(Ok(_))), "{name}: {property} = {value}");
            }
        }
    }
}
