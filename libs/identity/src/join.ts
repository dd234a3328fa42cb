import { base64, fromBase64, fromHex, hex } from "@tutti/foundation/bytes";
import { checkBytes } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { type Certificate, CertificateSchema } from "@tutti/wire/device";
import { decode, encode } from "@tutti/wire/message";
import { NAME } from "./name.ts";

/** What a site needs to join a federation once: where it is, whom to trust, and a one-time token. */
export type JoinFile = {
  readonly version: 1;
  readonly federation: string;
  /** "host:port" that the device dials. */
  readonly address: string;
  /** Where further coordinators of the federation are; whichever leads is found. */
  readonly addresses?: readonly string[];
  /** The TLS certificate that the device accepts, PEM, and those of further coordinators with their own. */
  readonly tls: { readonly certificate: string; readonly others?: readonly string[] };
  /** The authority's Ed25519 public key, 32 bytes. */
  readonly authority: Uint8Array;
  /**
   * The authority's grant on the token's key, and the token's 32-byte seed. Whoever has the seed can bind
   * another key to the site's name, after it was used too: once used it is taken out, null (`spent`).
   */
  readonly token: { readonly grant: Certificate; readonly secret: Uint8Array | null };
  /** Run owners the site may approve. */
  readonly owners: readonly { readonly name: string; readonly publicKey: Uint8Array }[];
};

/** A join file with a hundred owners is far below this. */
const MAX_TEXT = 256 << 10;
/** Coordinators beside the first. */
const MAX_OTHERS = 16;
const MAX_GRANT_BYTES = 16 << 10;
const ADDRESS = /^(?:[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):(\d{1,5})$/;
const CERTIFICATE = /^\s*-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----\s*$/;

/** The file after it was used: it still says whom to trust, and can make no site any more. */
export function spent(join: JoinFile): JoinFile {
  return { ...join, token: { ...join.token, secret: null } };
}

/** The file's text: JSON, keys in a fixed order, ending in a newline. */
export function joinFileText(join: JoinFile): string {
  const { version, federation, address, addresses = [], tls, authority, token, owners } = join;
  const { certificate, others = [] } = tls;
  const plain = {
    version,
    federation,
    address,
    // A device that knows one coordinator reads the files of a federation that has one.
    ...(addresses.length > 0 ? { addresses } : {}),
    tls: { certificate, ...(others.length > 0 ? { others } : {}) },
    authority: hex(authority),
    token: {
      grant: base64(encode(CertificateSchema, token.grant)),
      secret: token.secret && base64(token.secret),
    },
    owners: owners.map(({ name, publicKey }) => ({ name, publicKey: hex(publicKey) })),
  };
  return `${JSON.stringify(plain, null, 2)}\n`;
}

/**
 * Reads a join file strictly: every field of the right kind, none missing, none unknown.
 * @throws Fault("bad-input") naming the field, what was expected and what it held (never the secret itself).
 */
export function parseJoinFile(text: string): JoinFile {
  if (text.length > MAX_TEXT) throw wrong("", `at most ${MAX_TEXT} characters`, `${text.length}`);
  const names = ["version", "federation", "address", "tls", "authority", "token", "owners"];
  const file = fieldsOf("", parseJson(text), names, ["addresses"]);
  if (file.version !== 1) throw wrong("version", "1", show(file.version));
  const tls = fieldsOf("tls", file.tls, ["certificate"], ["others"]);
  const addresses = listOf("addresses", file.addresses, addressOf);
  const others = listOf("tls.others", tls.others, certificateOf);
  const token = fieldsOf("token", file.token, ["grant", "secret"]);
  return {
    version: 1,
    federation: matching("federation", file.federation, {
      pattern: NAME,
      words: "1..64 of A-Z a-z 0-9 . _ -",
    }),
    address: addressOf("address", file.address),
    ...(addresses.length > 0 ? { addresses } : {}),
    tls: {
      certificate: certificateOf("tls.certificate", tls.certificate),
      ...(others.length > 0 ? { others } : {}),
    },
    authority: keyOf("authority", file.authority),
    token: { grant: grantOf(token.grant), secret: secretOf(token.secret) },
    owners: ownersOf(file.owners),
  };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The parser's own message quotes the text, and the text holds a secret.
    throw wrong("", "JSON", "other text");
  }
}

/**
 * The object's fields: exactly these and maybe `more`, so that a misspelt or newer one is not silently
 * ignored.
 */
function fieldsOf(
  path: string,
  value: unknown,
  names: readonly string[],
  more: readonly string[] = [],
): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw wrong(path, "an object", kind(value));
  const known = [...names, ...more];
  const stray = Object.keys(value).find((key) => !known.includes(key));
  if (stray !== undefined) throw wrong(path, `only ${known.join(", ")}`, stray.slice(0, 40));
  const missing = names.find((key) => !Object.hasOwn(value, key));
  if (missing !== undefined) throw wrong(path ? `${path}.${missing}` : missing, "a value", "nothing");
  return value as Record<string, unknown>;
}

function matching(path: string, value: unknown, rule: { pattern: RegExp; words: string }): string {
  if (typeof value === "string" && rule.pattern.test(value)) return value;
  throw wrong(path, rule.words, show(value));
}

function addressOf(path: string, value: unknown): string {
  const words = "host:port";
  const address = matching(path, value, { pattern: ADDRESS, words });
  const port = Number(ADDRESS.exec(address)?.[1]);
  if (port < 1 || port > 65_535) throw wrong(path, "a port in 1..65535", `${port}`);
  return address;
}

function certificateOf(path: string, value: unknown): string {
  return matching(path, value, { pattern: CERTIFICATE, words: "one PEM certificate" });
}

/** A list that a file may leave out; of one coordinator nothing is said twice. */
function listOf<T>(path: string, value: unknown, itemOf: (path: string, item: unknown) => T): T[] {
  if (value === undefined) return [];
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_OTHERS)
    throw wrong(path, `a list of 1..${MAX_OTHERS}`, Array.isArray(value) ? `${value.length}` : kind(value));
  return value.map((item: unknown, at) => itemOf(`${path}[${at}]`, item));
}

function keyOf(path: string, value: unknown): Uint8Array {
  const rule = { pattern: /^[0-9a-f]{64}$/, words: "64 lower-case hex digits" };
  return fromHex(matching(path, value, rule), path);
}

function grantOf(value: unknown): Certificate {
  const path = "token.grant";
  const rule = { pattern: /^[A-Za-z0-9+/]+={0,2}$/, words: "base64" };
  try {
    const bytes = fromBase64(matching(path, value, rule), path);
    return decode(CertificateSchema, bytes, MAX_GRANT_BYTES);
  } catch (cause) {
    throw new Fault("bad-input", `join file: ${path}`, { expected: "a certificate in base64", cause });
  }
}

function secretOf(value: unknown): Uint8Array | null {
  if (value === null) return null;
  const path = "join file: token.secret";
  if (typeof value !== "string" || !/^[A-Za-z0-9+/]{43}=$/.test(value))
    throw new Fault("bad-input", path, { expected: "32 bytes in base64", got: "something else" });
  return checkBytes(path, fromBase64(value, path), 32, "bad-input");
}

function ownersOf(value: unknown): JoinFile["owners"] {
  if (!Array.isArray(value) || value.length > 1000) throw wrong("owners", "a list of owners", kind(value));
  const owners = value.map((item: unknown, at) => {
    const path = `owners[${at}]`;
    const { name, publicKey } = fieldsOf(path, item, ["name", "publicKey"]);
    return {
      name: matching(`${path}.name`, name, { pattern: NAME, words: "1..64 of A-Z a-z 0-9 . _ -" }),
      publicKey: keyOf(`${path}.publicKey`, publicKey),
    };
  });
  const names = owners.map((owner) => owner.name);
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw wrong("owners", "each name once", `${twice} twice`);
  return owners;
}

function wrong(path: string, expected: string, got: string): Fault {
  return new Fault("bad-input", path ? `join file: ${path}` : "join file", { expected, got });
}

function show(value: unknown): string {
  return typeof value === "string" || typeof value === "number"
    ? JSON.stringify(value).slice(0, 80)
    : kind(value);
}

function kind(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "a list" : typeof value;
}
