//! What is said to an encoder, as `rml_rtmp` writes it. It reads nothing: what encoders say goes
//! through `chunk` and `amf`.

use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::{PeerBandwidthLimitType, RtmpMessage, UserControlEventType};
use rml_rtmp::rml_amf0::Amf0Value;
use rml_rtmp::time::RtmpTimestamp;
use tracing::debug;

/// The length of our chunks: everything that is said here fits into one.
const CHUNK_BYTES: u32 = 4096;
/// The same before `connect` is answered (RTMP 1.0 §5.4.1).
const CHUNK_BYTES_AT_FIRST: u32 = 128;
/// After how many bytes we want to hear of it, and say so ourselves until we are told another.
pub(super) const WINDOW_BYTES: u32 = 2_500_000;
/// The longest text of a refusal.
const DESCRIPTION_BYTES_MAX: usize = 1024;
/// What Enhanced RTMP v2 may be used of: several tracks, `ModEx` and its nanoseconds.
const CAPABILITIES: f64 = (2 | 4 | 8) as f64;
/// The codecs of Enhanced RTMP that are forwarded, or made into what is.
const VIDEO_CODECS: [&str; 5] = ["avc1", "hvc1", "av01", "vp09", "vp08"];
const AUDIO_CODECS: [&str; 4] = ["Opus", "mp4a", ".mp3", "ac-3"];

/// Writes what is said on one connection.
pub(super) struct Replies {
    serializer: ChunkSerializer,
    chunk_bytes: u32,
    written: Vec<u8>,
}

/// The texts of `onStatus`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Status<'a> {
    pub(super) is_error: bool,
    pub(super) code: &'static str,
    pub(super) description: &'a str,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            serializer: ChunkSerializer::new(),
            chunk_bytes: CHUNK_BYTES_AT_FIRST,
            written: Vec::new(),
        }
    }

    /// What has been written since it was last taken.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    /// `connect` is answered (RTMP 1.0 §7.2.1.1): how bytes are counted and divided, then that it
    /// is well, and what of Enhanced RTMP may be used.
    pub(super) fn connected(&mut self, transaction: f64) {
        self.message(0, RtmpMessage::WindowAcknowledgement { size: WINDOW_BYTES });
        let limit_type = PeerBandwidthLimitType::Dynamic;
        self.message(0, RtmpMessage::SetPeerBandwidth { size: WINDOW_BYTES, limit_type });
        match self.serializer.set_max_chunk_size(CHUNK_BYTES, RtmpTimestamp::new(0)) {
            Ok(packet) => {
                self.chunk_bytes = CHUNK_BYTES;
                self.written.extend(packet.bytes);
            }
            Err(error) => debug!(%error, "no chunk size can be set"),
        }
        let properties = [
            ("fmsVer", text("FMS/3,0,1,123")),
            ("capabilities", Amf0Value::Number(31.0)),
            ("mode", Amf0Value::Number(1.0)),
        ];
        let list = |codecs: &[&str]| codecs.iter().map(|&codec| text(codec)).collect();
        // 1 is "can decode", 4 "can forward".
        let map = |codecs: &[&'static str]| {
            object(codecs.iter().map(|&codec| (codec, Amf0Value::Number(5.0))))
        };
        let status = Status {
            is_error: false,
            code: "NetConnection.Connect.Success",
            description: "Welcome",
        };
        let enhanced = [
            ("objectEncoding", Amf0Value::Number(0.0)),
            ("fourCcList", Amf0Value::StrictArray(list(&VIDEO_CODECS))),
            ("videoFourCcInfoMap", map(&VIDEO_CODECS)),
            ("audioFourCcInfoMap", map(&AUDIO_CODECS)),
            ("capsEx", Amf0Value::Number(CAPABILITIES)),
        ];
        let information = object(status.members().into_iter().chain(enhanced));
        self.command(0, "_result", transaction, object(properties), vec![information]);
    }

    /// `connect` is refused.
    pub(super) fn not_connected(&mut self, transaction: f64, description: &str) {
        let status = Status { is_error: true, code: "NetConnection.Connect.Rejected", description };
        let information = object(status.members());
        self.command(0, "_error", transaction, Amf0Value::Null, vec![information]);
    }

    /// A command has been done.
    pub(super) fn done(&mut self, transaction: f64, result: Option<f64>) {
        let result = result.map_or(Amf0Value::Undefined, Amf0Value::Number);
        self.command(0, "_result", transaction, Amf0Value::Null, vec![result]);
    }

    /// `onFCPublish` or `onFCUnpublish`, without which Adobe's encoder and those that follow it
    /// do not go on.
    pub(super) fn on_fc(&mut self, command: &str, status: Status<'_>) {
        self.command(0, command, 0.0, Amf0Value::Null, vec![object(status.members())]);
    }

    /// `onStatus` about a message stream.
    pub(super) fn status(&mut self, stream: u32, status: Status<'_>) {
        let information = object(status.members());
        self.command(stream, "onStatus", 0.0, Amf0Value::Null, vec![information]);
    }

    /// A message stream has begun.
    pub(super) fn begin(&mut self, stream: u32) {
        self.user_control(UserControlEventType::StreamBegin, Some(stream), None);
    }

    /// A message stream has ended.
    pub(super) fn end(&mut self, stream: u32) {
        self.user_control(UserControlEventType::StreamEof, Some(stream), None);
    }

    /// Asks whether somebody is there.
    pub(super) fn ping(&mut self) {
        self.user_control(UserControlEventType::PingRequest, None, Some(0));
    }

    /// Answers the same question.
    pub(super) fn pong(&mut self, timestamp: u32) {
        self.user_control(UserControlEventType::PingResponse, None, Some(timestamp));
    }

    /// So many bytes have come since the connection began, modulo 2^32 (RTMP 1.0 §5.4.3).
    pub(super) fn acknowledge(&mut self, received: u64) {
        self.message(0, RtmpMessage::Acknowledgement { sequence_number: received as u32 });
    }

    fn user_control(
        &mut self,
        event_type: UserControlEventType,
        stream_id: Option<u32>,
        timestamp: Option<u32>,
    ) {
        let timestamp = timestamp.map(RtmpTimestamp::new);
        let message =
            RtmpMessage::UserControl { event_type, stream_id, timestamp, buffer_length: None };
        self.message(0, message);
    }

    fn command(
        &mut self,
        stream: u32,
        name: &str,
        transaction_id: f64,
        command_object: Amf0Value,
        additional_arguments: Vec<Amf0Value>,
    ) {
        let command_name = name.to_owned();
        let message = RtmpMessage::Amf0Command {
            command_name,
            transaction_id,
            command_object,
            additional_arguments,
        };
        self.message(stream, message);
    }

    /// A message has a whole header: there are encoders that understand no other.
    fn message(&mut self, stream: u32, message: RtmpMessage) {
        let payload = match message.into_message_payload(RtmpTimestamp::new(0), stream) {
            Ok(payload) => payload,
            Err(error) => return debug!(%error, "a message cannot be written"),
        };
        // Of several chunks the later ones would get whole headers too, which is wrong.
        let fits = payload.data.len() <= self.chunk_bytes as usize;
        match self.serializer.serialize(&payload, fits, false) {
            Ok(packet) => self.written.extend(packet.bytes),
            Err(error) => debug!(%error, "a message cannot be written"),
        }
    }
}

impl Status<'_> {
    fn members(&self) -> [(&'static str, Amf0Value); 3] {
        let mut end = self.description.len().min(DESCRIPTION_BYTES_MAX);
        while !self.description.is_char_boundary(end) {
            end -= 1;
        }
        let description = self.description.get(..end).unwrap_or_default();
        let level = if self.is_error { "error" } else { "status" };
        [("level", text(level)), ("code", text(self.code)), ("description", text(description))]
    }
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

fn object(members: impl IntoIterator<Item = (&'static str, Amf0Value)>) -> Amf0Value {
    Amf0Value::Object(members.into_iter().map(|(name, it)| (name.to_owned(), it)).collect())
}
