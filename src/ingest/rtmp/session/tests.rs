//! What encoders say and what they are answered, read back by the reader that reads encoders.

use super::*;

/// A value in AMF0, as encoders write it.
fn amf(value: &Value) -> Vec<u8> {
    let name = |name: &str| [&(name.len() as u16).to_be_bytes()[..], name.as_bytes()].concat();
    match value {
        Value::Number(number) => [&[0][..], &number.to_be_bytes()].concat(),
        Value::Boolean(is) => vec![1, u8::from(*is)],
        Value::Text(text) => [vec![2], name(text)].concat(),
        Value::Object(members) => {
            let members = members.iter().flat_map(|(key, it)| [name(key), amf(it)].concat());
            [vec![3], members.collect(), vec![0, 0, 9]].concat()
        }
        Value::List(_) | Value::Null => vec![5],
    }
}

/// A message as one chunk, of a size that has been set large enough.
fn message(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [&[3, 0, 0, 0][..], &length[1..], &[kind], &stream.to_le_bytes()].concat();
    [head, payload.to_vec()].concat()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn command(name: &str, transaction: f64, rest: &[Value]) -> Vec<u8> {
    let values = [&[text(name), Value::Number(transaction)][..], rest].concat();
    let payload: Vec<u8> = values.iter().flat_map(amf).collect();
    message(kind::COMMAND, 1, &payload)
}

fn connect(application: &str) -> Vec<u8> {
    let object = Value::Object(vec![("app".to_owned(), text(application))]);
    command("connect", 1.0, &[object])
}

fn publish(key: &str) -> Vec<u8> {
    command("publish", 5.0, &[Value::Null, text(key), text("live")])
}

/// A session that has set a chunk size with which every message is one chunk.
struct Talk {
    session: Session,
    answers: ChunkReader,
}

impl Talk {
    fn new() -> Self {
        let mut talk = Self { session: Session::default(), answers: ChunkReader::default() };
        let size = message(kind::SET_CHUNK_SIZE, 0, &(1_u32 << 20).to_be_bytes());
        assert_eq!(talk.say(&size), Ok(None));
        talk
    }

    fn publishing() -> Self {
        let mut talk = Self::new();
        talk.say(&connect("live")).expect("it is taken");
        talk.say(&publish("a")).expect("it is taken");
        talk.session.accept("go");
        talk.heard();
        talk
    }

    fn say(&mut self, bytes: &[u8]) -> Result<Option<Event>, SessionError> {
        self.session.note_received(bytes.len());
        self.session.read(&mut BytesMut::from(bytes))
    }

    /// What has been answered: commands as name and the last argument's code, others as numbers.
    fn heard(&mut self) -> Vec<String> {
        let mut bytes = BytesMut::from(&self.session.output()[..]);
        let mut heard = Vec::new();
        while let Some(message) = self.answers.read(&mut bytes).expect("chunks") {
            heard.push(match message.kind {
                kind::COMMAND => told(&message),
                kind => format!("{kind}"),
            });
        }
        assert!(bytes.is_empty(), "whole chunks only");
        heard
    }
}

fn told(message: &Message) -> String {
    let values = amf::read(&message.payload).expect("values");
    let name = values[0].text().expect("a name");
    let last = values.last().expect("values");
    let code = last.get("code").and_then(Value::text).map(str::to_owned);
    let number = last.number().map(|number| number.to_string());
    format!("{name} {}", code.or(number).unwrap_or_default())
}

#[test]
fn an_encoder_is_led_from_connect_to_its_first_picture() {
    let mut talk = Talk::new();
    assert_eq!(talk.say(&connect("live")), Ok(None));
    // Window, bandwidth, then the result; the chunk size is taken by the reader.
    assert_eq!(talk.heard(), ["5", "6", "_result NetConnection.Connect.Success"]);
    for (name, answers) in [
        ("releaseStream", &["_result "][..]),
        ("FCPublish", &["_result ", "onFCPublish NetStream.Publish.Start"]),
        ("createStream", &["_result 1"]),
        ("_checkbw", &[]),
    ] {
        assert_eq!(talk.say(&command(name, 2.0, &[Value::Null, text("a")])), Ok(None));
        assert_eq!(talk.heard(), answers, "{name}");
    }
    let address = Address { stream: "a".to_owned(), token: "secret".to_owned() };
    assert_eq!(talk.say(&publish("a?token=secret")), Ok(Some(Event::Publish(address))));
    assert_eq!(talk.heard(), [""; 0], "the server decides");
    talk.session.accept("go");
    assert_eq!(talk.heard(), ["4", "onStatus NetStream.Publish.Start"]);
    let media = talk.say(&message(kind::VIDEO, 1, &[0x17])).expect("it is taken");
    assert!(matches!(media, Some(Event::Media(_))));
    assert_eq!(talk.say(&command("FCUnpublish", 6.0, &[Value::Null, text("a")])), Ok(None));
    talk.heard();
    let over = command("deleteStream", 7.0, &[Value::Null, Value::Number(1.0)]);
    assert_eq!(talk.say(&over), Ok(Some(Event::Unpublish)));
    assert_eq!(talk.heard(), ["onStatus NetStream.Unpublish.Success"]);
    assert!(matches!(talk.say(&publish("b")), Ok(Some(Event::Publish(_)))), "another may follow");
}

#[test]
fn connect_tells_what_of_enhanced_rtmp_may_be_used() {
    let mut talk = Talk::new();
    talk.say(&connect("live")).expect("it is taken");
    let mut bytes = BytesMut::from(&talk.session.output()[..]);
    let result = std::iter::from_fn(|| talk.answers.read(&mut bytes).expect("chunks"))
        .find(|message| message.kind == kind::COMMAND)
        .expect("a result");
    let values = amf::read(&result.payload).expect("values");
    let information = values.last().expect("information");
    assert_eq!(information.get("capsEx"), Some(&Value::Number(14.0)));
    let has = |codec| {
        matches!(information.get("fourCcList"), Some(Value::List(codecs))
        if codecs.contains(&text(codec)))
    };
    assert!(has("av01") && has("hvc1"));
}

#[test]
fn a_refusal_is_an_error_with_words_and_the_last_word() {
    for (reason, codes) in [
        (Reason::Denied, &["onStatus NetStream.Publish.Denied"][..]),
        (
            Reason::BadName,
            &["onStatus NetStream.Publish.BadName", "onStatus NetStream.Publish.Rejected"],
        ),
    ] {
        let mut talk = Talk::new();
        talk.say(&connect("live")).expect("it is taken");
        talk.say(&publish("a")).expect("it is taken");
        talk.heard();
        talk.session.refuse(reason, &"ä".repeat(4000));
        assert_eq!(talk.heard(), codes);
        assert_eq!(talk.say(&publish("b")), Ok(Some(Event::Close)), "nothing more is read");
    }
}

#[test]
fn an_end_from_outside_is_told_and_nothing_more_is_read() {
    let mut talk = Talk::publishing();
    talk.session.end("another took over");
    let codes =
        ["onStatus NetStream.Unpublish.Success", "onStatus NetStream.Publish.Rejected", "4"];
    assert_eq!(talk.heard(), codes);
    assert_eq!(talk.say(&message(kind::AUDIO, 1, &[0xaf])), Ok(Some(Event::Close)));
}

#[test]
fn who_wants_to_play_is_told_where() {
    let mut talk = Talk::new();
    talk.say(&connect("live")).expect("it is taken");
    talk.heard();
    let play = command("play", 4.0, &[Value::Null, text("a")]);
    assert_eq!(talk.say(&play), Ok(Some(Event::Close)));
    assert_eq!(talk.heard(), ["onStatus NetStream.Play.Failed"]);
}

#[test]
fn an_acknowledgement_carries_the_running_total() {
    let mut talk = Talk::publishing();
    let window = message(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, &10_000_u32.to_be_bytes());
    talk.say(&window).expect("it is taken");
    talk.heard();
    let mut totals = Vec::new();
    for _ in 0..7 {
        talk.say(&message(kind::AUDIO, 1, &[0; 4000])).expect("it is taken");
        let mut bytes = BytesMut::from(&talk.session.output()[..]);
        while let Some(message) = talk.answers.read(&mut bytes).expect("chunks") {
            assert_eq!(message.kind, kind::ACKNOWLEDGEMENT);
            totals.push(message.number().expect("a number"));
        }
    }
    assert!(totals.len() >= 2, "{totals:?}");
    assert!(totals.windows(2).all(|pair| pair[1] - pair[0] >= 10_000), "{totals:?}");
}

#[test]
fn pings_are_answered_with_their_own_time() {
    let mut talk = Talk::publishing();
    talk.say(&message(kind::USER_CONTROL, 0, &[0, 6, 1, 2, 3, 4])).expect("it is taken");
    let mut bytes = BytesMut::from(&talk.session.output()[..]);
    let pong = talk.answers.read(&mut bytes).expect("chunks").expect("a message");
    assert_eq!((pong.kind, &pong.payload[..]), (kind::USER_CONTROL, &[0, 7, 1, 2, 3, 4][..]));
}

#[test]
fn commands_that_are_short_or_out_of_order_do_no_harm() {
    let short = |values: &[Value]| {
        let payload: Vec<u8> = values.iter().flat_map(amf).collect();
        message(kind::COMMAND, 1, &payload)
    };
    let mut talk = Talk::new();
    assert_eq!(talk.say(&short(&[])), Ok(None));
    assert_eq!(talk.say(&short(&[Value::Number(1.0)])), Ok(None));
    assert!(talk.say(&publish("a")).is_err(), "before connect");
    let mut talk = Talk::new();
    assert_eq!(talk.say(&short(&[text("connect")])), Ok(Some(Event::Close)), "without an app");
    assert_eq!(talk.heard(), ["_error NetConnection.Connect.Rejected"]);
    let mut talk = Talk::new();
    talk.say(&connect("live")).expect("it is taken");
    for name in ["createStream", "FCPublish", "releaseStream", "deleteStream", "x"] {
        assert_eq!(talk.say(&short(&[text(name)])), Ok(None), "{name}");
    }
    let nameless = Address { stream: String::new(), token: String::new() };
    assert_eq!(talk.say(&short(&[text("publish")])), Ok(Some(Event::Publish(nameless))));
    assert!(talk.say(&connect("live")).is_err(), "twice");
    let mut talk = Talk::new();
    talk.say(&connect("live")).expect("it is taken");
    let create = |talk: &mut Talk| talk.say(&command("createStream", 1.0, &[]));
    let faults = (0..20).filter(|_| create(&mut talk).is_err()).count();
    assert_eq!(faults, 4, "16 are enough");
}

#[test]
fn commands_marked_as_amf3_are_read() {
    let mut talk = Talk::new();
    let plain = connect("live");
    let payload = [&[0], &plain[12..]].concat();
    assert_eq!(talk.say(&message(kind::COMMAND_AMF3, 0, &payload)), Ok(None));
    assert!(talk.heard().contains(&"_result NetConnection.Connect.Success".to_owned()));
}

#[test]
fn media_before_publish_and_nested_values_close_the_connection() {
    let mut talk = Talk::new();
    talk.say(&connect("live")).expect("it is taken");
    let media = talk.say(&message(kind::AUDIO, 1, &[0xaf, 0]));
    assert_eq!(media, Err(ChunkError::MediaBeforePublish.into()));
    let mut talk = Talk::new();
    let nested = message(kind::COMMAND, 0, &[10, 0, 0, 0, 1].repeat(13_000));
    assert!(matches!(talk.say(&nested), Err(SessionError::Amf { error: AmfError::Depth, .. })));
    let mut talk = Talk::publishing();
    let metadata = message(kind::DATA, 1, &amf(&text("@setDataFrame")));
    assert_eq!(talk.say(&metadata), Ok(None));
}
