//! What real encoders send, and what only hostile ones do.

use super::*;

/// A chunk with a whole header.
fn first(id: u8, timestamp: u32, kind: u8, length: usize, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend_from_slice(&timestamp.min(EXTENDED).to_be_bytes()[1..]);
    bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    bytes.push(kind);
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    if timestamp >= EXTENDED {
        bytes.extend_from_slice(&timestamp.to_be_bytes());
    }
    bytes.extend_from_slice(data);
    bytes
}

/// A chunk that goes on.
fn more(id: u8, data: &[u8]) -> Vec<u8> {
    [&[0xc0 | id], data].concat()
}

fn taker() -> ChunkReader {
    let mut reader = ChunkReader::default();
    reader.take_media(true);
    reader
}

/// All messages as (timestamp, kind, length), however the bytes come in pieces.
fn messages(bytes: &[u8]) -> Result<Vec<(u32, u8, usize)>, ChunkError> {
    let mut results = Vec::new();
    for piece in [1, 7, bytes.len().max(1)] {
        let mut reader = taker();
        let mut input = BytesMut::new();
        let mut read = Ok(Vec::new());
        'pieces: for part in bytes.chunks(piece) {
            input.extend_from_slice(part);
            loop {
                match (reader.read(&mut input), &mut read) {
                    (Ok(Some(it)), Ok(list)) => {
                        list.push((it.timestamp, it.kind, it.payload.len()));
                    }
                    (Ok(_), _) => break,
                    (Err(error), _) => {
                        read = Err(error);
                        break 'pieces;
                    }
                }
            }
        }
        results.push(read);
    }
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    results.remove(0)
}

#[test]
fn chunks_of_several_messages_may_lie_between_each_other() {
    let bytes = [
        first(4, 40, kind::VIDEO, 300, &[1; 128]),
        first(5, 41, kind::AUDIO, 150, &[2; 128]),
        more(4, &[1; 128]),
        more(5, &[2; 22]),
        more(4, &[1; 44]),
    ];
    let read = messages(&bytes.concat());
    assert_eq!(read, Ok(vec![(41, kind::AUDIO, 150), (40, kind::VIDEO, 300)]));
}

#[test]
fn later_headers_repeat_what_they_leave_out() {
    let bytes = [
        first(4, 1000, kind::VIDEO, 2, &[1; 2]),
        [&[0x44, 0, 0, 33, 0, 0, 3, kind::AUDIO][..], &[0; 3]].concat(),
        [&[0x84, 0, 0, 20][..], &[0; 3]].concat(),
        more(4, &[0; 3]),
    ];
    let (audio, video) = (kind::AUDIO, kind::VIDEO);
    let expected = vec![(1000, video, 2), (1033, audio, 3), (1053, audio, 3), (1073, audio, 3)];
    assert_eq!(messages(&bytes.concat()), Ok(expected));
}

#[test]
fn librtmp_begins_a_chunk_stream_with_half_a_header() {
    let ping = [0x42, 0, 0, 0, 0, 0, 6, kind::USER_CONTROL, 0, 3, 0, 0, 0, 1];
    assert_eq!(messages(&ping), Ok(vec![(0, kind::USER_CONTROL, 6)]));
}

#[test]
fn long_timestamps_are_read_whether_or_not_later_chunks_repeat_them() {
    let late = 0x0123_4567_u32;
    let repeating = [late.to_be_bytes().as_slice(), &[7; 72]].concat();
    for second in [repeating, vec![7; 72]] {
        let bytes = [first(4, late, kind::VIDEO, 200, &[7; 128]), more(4, &second)].concat();
        assert_eq!(messages(&bytes), Ok(vec![(late, kind::VIDEO, 200)]));
    }
    let wrapped = [first(4, u32::MAX, kind::AUDIO, 1, &[0]), [&[0x84, 0, 0, 5][..], &[0]].concat()];
    let read = messages(&wrapped.concat());
    assert_eq!(read, Ok(vec![(u32::MAX, kind::AUDIO, 1), (4, kind::AUDIO, 1)]));
}

#[test]
fn chunk_stream_numbers_have_one_two_or_three_bytes() {
    let mut two = first(0, 1, kind::DATA, 1, &[0]);
    two.insert(1, 0xff);
    let mut three = first(1, 2, kind::DATA, 1, &[0]);
    three.splice(1..1, [0xff, 0xff]);
    let read = messages(&[two, three].concat());
    assert_eq!(read, Ok(vec![(1, kind::DATA, 1), (2, kind::DATA, 1)]));
}

#[test]
fn a_chunk_size_is_1_byte_to_1_mib() {
    let set = |size: u32| first(2, 0, kind::SET_CHUNK_SIZE, 4, &size.to_be_bytes());
    for good in [1_u32, 128, 1 << 20] {
        let sized = vec![9; 3.min(good as usize)];
        let mut bytes = [set(good), first(4, 0, kind::AUDIO, 3, &sized)].concat();
        if good == 1 {
            bytes.extend([more(4, &[9]), more(4, &[9])].concat());
        }
        assert_eq!(messages(&bytes), Ok(vec![(0, kind::AUDIO, 3)]), "{good}");
    }
    for bad in [0, (1 << 20) + 1, 1 << 31, u32::MAX] {
        assert_eq!(messages(&set(bad)), Err(ChunkError::ChunkSize(bad)));
    }
}

#[test]
fn an_aborted_message_is_forgotten() {
    let bytes = [
        first(4, 0, kind::VIDEO, 300, &[1; 128]),
        first(2, 0, kind::ABORT, 4, &4_u32.to_be_bytes()),
        first(4, 9, kind::VIDEO, 2, &[1; 2]),
    ];
    assert_eq!(messages(&bytes.concat()), Ok(vec![(9, kind::VIDEO, 2)]));
}

#[test]
fn what_is_no_chunk_or_too_much_is_refused_before_it_is_kept() {
    let long = |kind, length| first(4, 0, kind, length, &[]);
    let streams: Vec<u8> = (2..=34).flat_map(|id| first(id, 0, kind::DATA, 1, &[0])).collect();
    for (bytes, fault) in [
        (more(7, &[0; 9]), ChunkError::NoFirstHeader(7)),
        (vec![0x87, 0, 0, 0], ChunkError::NoFirstHeader(7)),
        (
            [first(4, 0, kind::VIDEO, 300, &[0; 128]), first(4, 0, kind::VIDEO, 3, &[0; 3])]
                .concat(),
            ChunkError::Unfinished(4),
        ),
        (streams, ChunkError::TooManyStreams),
        (
            long(kind::VIDEO, MEDIA_BYTES_MAX + 1),
            ChunkError::TooLong {
                kind: kind::VIDEO,
                length: MEDIA_BYTES_MAX + 1,
                max: MEDIA_BYTES_MAX,
            },
        ),
        (
            long(kind::COMMAND, COMMAND_BYTES_MAX + 1),
            ChunkError::TooLong {
                kind: kind::COMMAND,
                length: COMMAND_BYTES_MAX + 1,
                max: COMMAND_BYTES_MAX,
            },
        ),
        (
            long(kind::ABORT, 65),
            ChunkError::TooLong { kind: kind::ABORT, length: 65, max: CONTROL_BYTES_MAX },
        ),
        (first(2, 0, kind::ABORT, 3, &[0; 3]), ChunkError::TooShort(kind::ABORT)),
    ] {
        assert_eq!(messages(&bytes), Err(fault));
    }
}

#[test]
fn who_does_not_publish_sends_no_media_and_little_else() {
    let mut reader = ChunkReader::default();
    let mut input = BytesMut::from(&first(4, 0, kind::AUDIO, 1, &[0])[..]);
    assert_eq!(reader.read(&mut input), Err(ChunkError::MediaBeforePublish));

    let mut reader = ChunkReader::default();
    let size = first(2, 0, kind::SET_CHUNK_SIZE, 4, &(1_u32 << 20).to_be_bytes());
    reader.read(&mut BytesMut::from(&size[..])).expect("a good size");
    let almost = vec![0; COMMAND_BYTES_MAX - 1];
    let parts = |id: u8| {
        // Each is left one byte short, by a chunk size that is one byte short.
        let size = (COMMAND_BYTES_MAX as u32 - 1).to_be_bytes();
        let size = first(2, 0, kind::SET_CHUNK_SIZE, 4, &size);
        [size, first(id, 0, kind::COMMAND, COMMAND_BYTES_MAX, &almost)].concat()
    };
    let fault = (3..9).find_map(|id| reader.read(&mut BytesMut::from(&parts(id)[..])).err());
    assert_eq!(fault, Some(ChunkError::TooMuch));
}

#[test]
fn who_does_not_publish_has_nothing_reserved_for_what_it_announces() {
    let mut reader = ChunkReader::default();
    for id in 2..32 {
        let mut input = BytesMut::from(&first(id, 0, kind::COMMAND, COMMAND_BYTES_MAX, &[])[..]);
        assert_eq!(reader.read(&mut input), Ok(None));
    }
    let partials = reader.streams.iter().filter_map(|stream| stream.partial.as_ref());
    let reserved: usize = partials.map(BytesMut::capacity).sum();
    assert!(reserved <= 16 << 10, "{reserved} bytes");
}
