import { base64, fromBase64 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { type RequestAuth, RequestAuthSchema } from "./device.ts";
import { decode, encode } from "./message.ts";

/**
 * Where in a request's metadata its signature is. Which headers go into HPACK's table is the encoder's choice
 * (RFC 7541, section 7.1.3): nghttp2, which Node has on both sides, never indexes this one, where any other
 * would push out those that every request repeats. Proxies and logs know to hide it.
 */
export const AUTHORIZATION = "authorization";

/** RFC 9110, section 11.4: credentials are a scheme's name, in any case, and a token68. */
const CREDENTIALS = /^tutti +(\S+)$/i;
const MAX_AUTH_BYTES = 1024;
const MAX_CHARS = 2 * MAX_AUTH_BYTES;

/** The header's text. */
export function authorization(auth: RequestAuth): string {
  return `Tutti ${base64(encode(RequestAuthSchema, auth))}`;
}

/** @throws Fault("refused") for another scheme's credentials; Fault("bad-message") for what is no message. */
export function parseAuthorization(text: string): RequestAuth {
  const token = text.length <= MAX_CHARS ? CREDENTIALS.exec(text)?.[1] : undefined;
  if (!token) throw new Fault("refused", "request", { expected: "a signature of Tutti's", got: "another" });
  const bytes = (() => {
    try {
      return fromBase64(token);
    } catch (cause) {
      throw new Fault("bad-message", "authorization", { expected: "base64", cause });
    }
  })();
  return decode(RequestAuthSchema, bytes, MAX_AUTH_BYTES);
}
