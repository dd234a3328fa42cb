import { X509Certificate } from "node:crypto";
import { join } from "node:path";
import { ChannelCredentials, Client, Metadata } from "@grpc/grpc-js";
import { equalBytes, fromUtf8 } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { envelopeFromJson, envelopeJson } from "@tutti/release/dsse";
import { openTlsCertificates, readTlsCertificates } from "@tutti/release/tls";
import { create, encode } from "@tutti/wire/message";
import { Standing, type TlsCertificates, TlsCertificatesRequestSchema } from "@tutti/wire/standing";
import type { Pins } from "../link.ts";
import { readIfThere, replaceFile } from "./atomic.ts";
import { unary } from "./calls.ts";
import { inTime } from "./handshake.ts";
import type { TlsIdentity } from "./sign.ts";

/** How a link finds out that its coordinator has another TLS certificate, and remembers it. */
export type PinKeeping = {
  /** Vouches for coordinators, and they for their TLS certificates. */
  readonly authority: Uint8Array;
  /** The newest list taken; null while there is only what the join file said. */
  readonly kept: TlsCertificates | null;
  /** Keeps a list's envelope, through a restart too. */
  keep(text: string): Promise<void>;
};

const FETCH_MS = 5_000;
const MAX_FILE_BYTES = 1 << 20;
const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

/** In a device's folder: `tls.json`, the newest list as the coordinator signed it. */
export async function openPins(folder: string, authority: Uint8Array): Promise<PinKeeping> {
  const file = join(folder, "tls.json");
  const held = await readIfThere(file, MAX_FILE_BYTES);
  return {
    authority,
    // It was checked when it came; the certificate of who signed it may have ended since.
    kept: held && readTlsCertificates(envelopeFromJson(fromUtf8(held, file)).payload),
    keep: (text) => replaceFile(file, text),
  };
}

/**
 * TLS that trusts the certificates given and nothing else. Their names are not compared with the address:
 * what is pinned is the certificate itself, so a coordinator may move behind another name without becoming
 * another coordinator.
 */
export class PinnedTls implements Pins {
  version = 0;
  readonly #keeping: PinKeeping | undefined;
  #own: readonly X509Certificate[];
  /** Whether connections are still made with what was pinned before. */
  #isStale = false;

  constructor(pem: string, keeping?: PinKeeping) {
    this.#keeping = keeping;
    const kept = keeping?.kept;
    this.#own = kept ? certificatesOf(kept.certificates) : certificatesOf(pem.match(CERTIFICATE) ?? [pem]);
    this.version = kept?.version ?? 0;
  }

  credentials(shows?: TlsIdentity): ChannelCredentials {
    this.#isStale = false;
    const own = this.#own;
    const pem = Buffer.from(own.map(String).join("\n"));
    const credentials = ChannelCredentials.createSsl(pem, shows?.key ?? null, shows?.certificate ?? null, {
      checkServerIdentity: (_host, { raw }) =>
        own.some((one) => equalBytes(raw, one.raw))
          ? undefined
          : new Error("not the certificate that was pinned at joining"),
    });
    return inTime(credentials);
  }

  get isStale(): boolean {
    return this.#isStale;
  }

  async renew(list: TlsCertificates, text: string): Promise<void> {
    if (list.version <= this.version) return;
    const own = certificatesOf(list.certificates);
    await this.#keeping?.keep(text);
    this.#own = own;
    this.version = list.version;
    this.#isStale = true;
  }

  /**
   * Asks a coordinator whose certificate is not pinned which ones are its own. Nothing on that connection is
   * believed but the list, which a key that the authority certified has signed, and which must be newer than
   * ours; nothing is told but this device's public key, where TLS asks for it. False where there is none.
   */
  async ask(
    address: string,
    {
      nowS,
      shows,
      signal,
    }: { nowS: number; shows?: TlsIdentity | undefined; signal?: AbortSignal | undefined },
  ): Promise<boolean> {
    if (!this.#keeping) return false;
    const unpinned = { rejectUnauthorized: false, checkServerIdentity: () => undefined };
    const [key, certificate] = [shows?.key ?? null, shows?.certificate ?? null];
    const credentials = inTime(ChannelCredentials.createSsl(null, key, certificate, unpinned));
    const client = new Client(address, credentials, {
      "grpc.use_local_subchannel_pool": 1,
      // An IP is no name for TLS (RFC 6066, section 3).
      "grpc.ssl_target_name_override": "tutti",
      "grpc.max_receive_message_length": MAX_FILE_BYTES,
    });
    try {
      const method = Standing.method.tlsCertificates;
      const body = encode(TlsCertificatesRequestSchema, create(TlsCertificatesRequestSchema));
      const call = { client, method, metadata: new Metadata(), signal, deadlineMs: FETCH_MS };
      const envelope = await unary(call, body);
      const list = openTlsCertificates(envelope, { authority: this.#keeping.authority, nowS });
      if (list.version <= this.version) return false;
      await this.renew(list, envelopeJson(envelope));
      return true;
    } catch {
      // What the link met first, a certificate that is not pinned, says more.
      return false;
    } finally {
      client.close();
    }
  }
}

function certificatesOf(some: readonly (string | Uint8Array)[]): X509Certificate[] {
  try {
    return some.map((one) => new X509Certificate(one));
  } catch (cause) {
    throw new Fault("bad-input", "TLS certificate", {
      expected: "X.509 certificates",
      got: "other bytes",
      cause,
    });
  }
}
