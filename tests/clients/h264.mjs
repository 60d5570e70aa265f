// H.264 as files have it (Annex B) and as RTP carries it (RFC 3550, RFC 6184).

export const START_CODE = Buffer.from([0, 0, 0, 1]);
export const [IDR, SPS] = [5, 7];
const [SLICE_MAX, DELIMITER, STAP_A, FU_A] = [5, 9, 24, 28];
const PAYLOAD_MAX = 1_180;

export const kindOf = (nal) => nal[0] & 0x1f;

/** The pictures of an Annex B file, each as its NAL units with what stands before it. */
export function accessUnits(bytes) {
  const pictures = [[]];
  let complete = false;
  for (const nal of nalUnits(bytes)) {
    const isSlice = kindOf(nal) >= 1 && kindOf(nal) <= SLICE_MAX;
    // The top bit set means the first macroblock: a new picture.
    if (complete && (!isSlice || nal[1] & 0x80)) {
      pictures.push([]);
      complete = false;
    }
    complete ||= isSlice;
    if (kindOf(nal) !== DELIMITER) pictures.at(-1).push(nal);
  }
  return pictures;
}

function nalUnits(bytes) {
  const marks = [];
  for (let at = bytes.indexOf("\0\0\x01"); at >= 0; at = bytes.indexOf("\0\0\x01", at + 3)) {
    marks.push(at);
  }
  return marks.map((mark, index) => {
    let to = marks[index + 1] ?? bytes.length;
    while (bytes[to - 1] === 0) to -= 1;
    return bytes.subarray(mark + 3, to);
  });
}

/** The payloads of a picture, fragmented where they are long (RFC 6184 §5.8). */
export function packetize(nals) {
  return nals.flatMap((nal) => {
    if (nal.length <= PAYLOAD_MAX) return [nal];
    const payloads = [];
    for (let at = 1; at < nal.length; at += PAYLOAD_MAX) {
      const start = at === 1 ? 0x80 : 0;
      const end = at + PAYLOAD_MAX >= nal.length ? 0x40 : 0;
      const head = Buffer.from([(nal[0] & 0xe0) | FU_A, start | end | kindOf(nal)]);
      payloads.push(Buffer.concat([head, nal.subarray(at, at + PAYLOAD_MAX)]));
    }
    return payloads;
  });
}

/** An RTP packet with extensions of one byte's header (RFC 8285 §4.2), texts by their ids. */
export function rtpPacket({ type, marker, sequence, timestamp, ssrc, extensions, payload }) {
  const header = Buffer.alloc(12);
  header[0] = 0x90;
  header[1] = (marker ? 0x80 : 0) | type;
  header.writeUInt16BE(sequence % 65_536, 2);
  header.writeUInt32BE(timestamp, 4);
  header.writeUInt32BE(ssrc, 8);
  const elements = Object.entries(extensions).map(([id, text]) => {
    return Buffer.concat([Buffer.from([(Number(id) << 4) | (text.length - 1)]), Buffer.from(text)]);
  });
  const length = elements.reduce((sum, element) => sum + element.length, 0);
  const padding = Buffer.alloc((4 - (length % 4)) % 4);
  const head = Buffer.from([0xbe, 0xde, 0, (length + padding.length) / 4]);
  return Buffer.concat([header, head, ...elements, padding, payload]);
}

/** The payload of an RTP packet of this type (RFC 3550 §5.1), if it has any. */
export function payloadOf(packet, type) {
  if (packet.length < 12 || (packet[1] & 0x7f) !== type) return undefined;
  let start = 12 + 4 * (packet[0] & 0x0f);
  if (packet[0] & 0x10) start += 4 + 4 * packet.readUInt16BE(start + 2);
  const padding = packet[0] & 0x20 ? packet.at(-1) : 0;
  const payload = packet.subarray(start, packet.length - padding);
  return payload.length > 0 ? payload : undefined;
}

/** The NAL units that a payload completes (RFC 6184 §5.6 to §5.8). */
export function depacketize(payload, fragments) {
  const kind = kindOf(payload);
  if (kind === STAP_A) {
    const nals = [];
    for (let at = 1; at + 2 < payload.length; ) {
      const length = payload.readUInt16BE(at);
      nals.push(payload.subarray(at + 2, at + 2 + length));
      at += 2 + length;
    }
    return nals;
  }
  if (kind !== FU_A) return [payload];
  if (payload[1] & 0x80) {
    fragments.length = 0;
    fragments.push(Buffer.from([(payload[0] & 0xe0) | (payload[1] & 0x1f)]));
  }
  fragments.push(Buffer.from(payload.subarray(2)));
  return payload[1] & 0x40 ? [Buffer.concat(fragments.splice(0))] : [];
}
