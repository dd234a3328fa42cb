/** RFC 9113, section 3.4. */
export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** ":method: POST" and ":scheme: https", of HPACK's static table (RFC 7541, appendix A). */
export const POST_HTTPS = Buffer.from([0x83, 0x87]);

export type Frame = { type: number; flags?: number; stream: number; body: Buffer };

/** An HTTP/2 frame (RFC 9113, section 4.1). */
export function frame({ type, flags = 0, stream, body }: Frame): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, body]);
}

/** A header that neither side keeps, without Huffman's code (RFC 7541, section 6.2.2). */
export function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

/** RFC 7541, section 5.2; the length as an integer of seven bits and more (section 5.1). */
function text(said: string): Buffer {
  const bytes = Buffer.from(said, "latin1");
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const length = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
  return Buffer.concat([Buffer.from([...length, rest]), bytes]);
}
