import { Fault } from "./fault.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** UTF-8 bytes of a string. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Text of UTF-8 bytes; a Fault when they are not UTF-8. */
export function fromUtf8(bytes: Uint8Array, what = "text"): string {
  try {
    return decoder.decode(bytes);
  } catch (cause) {
    throw new Fault("bad-message", what, { expected: "UTF-8", got: "other bytes", cause });
  }
}

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Equality in time that depends on the length alone, so it may be used on secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let different = 0;
  for (let i = 0; i < a.length; i++) different |= a[i]! ^ b[i]!;
  return different === 0;
}

/** Orders byte strings lexicographically, shorter first on a tie: negative, zero or positive. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = Math.min(a.length, b.length);
  for (let i = 0; i < shared; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

const DIGITS = utf8("0123456789abcdef");

/** Made at once: a text that grows by `+=` is kept as a tree of its parts, ten times as large. */
export function hex(bytes: Uint8Array): string {
  const text = new Uint8Array(2 * bytes.length);
  bytes.forEach((byte, at) => {
    text[2 * at] = DIGITS[byte >> 4]!;
    text[2 * at + 1] = DIGITS[byte & 15]!;
  });
  return decoder.decode(text);
}

export function fromHex(text: string, what = "hex"): Uint8Array {
  if (!/^(?:[0-9a-f]{2})*$/.test(text))
    throw new Fault("bad-input", what, { expected: "lower-case hex pairs" });
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Standard base64 with padding, as in PEM and JSON files. */
export function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  }
  return btoa(binary);
}

export function fromBase64(text: string, what = "base64"): Uint8Array {
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch (cause) {
    throw new Fault("bad-input", what, { expected: "base64", cause });
  }
}

/**
 * Canonical bytes of a tuple: a domain string, then each field with its length as a little-endian u32.
 * Two different tuples never share an encoding, so a signature over one cannot be moved to another.
 */
export function canonical(domain: string, ...fields: readonly (Uint8Array | string | number)[]): Uint8Array {
  const parts = [utf8(domain), ...fields.map(bytesOf)];
  // Rosters have thousands of fields: one buffer, written once.
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(whole.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    whole.set(part, at + 4);
    at += 4 + part.length;
  }
  return whole;
}

function bytesOf(field: Uint8Array | string | number): Uint8Array {
  return typeof field === "string" ? utf8(field) : typeof field === "number" ? u64(field) : field;
}

/** Little-endian u32. */
export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function u64(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new RangeError(`canonical: not a natural number: ${value}`);
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes;
}
