import { X509Certificate } from "node:crypto";
import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import type { Verify } from "@tutti/identity/keys";
import { checkGrown, NO_REVOCATIONS, openRevocations } from "@tutti/release/revocations";
import { MAX_TLS_CERTIFICATES, openTlsCertificates, signTlsCertificates } from "@tutti/release/tls";
import { type Notice, NoticeSchema } from "@tutti/wire/device";
import { create, decode, encode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { Federation } from "../folder/federation.ts";
import type { Store } from "../store/store.ts";
import type { Kind, Statement } from "../store/trust.ts";

type Versions = Pick<Notice, "revocations" | "tlsCertificates">;

export type NoticesParts = {
  readonly store: Store;
  readonly federation: Pick<Federation, "authority" | "coordinator">;
  readonly clock: Clock;
  readonly verify: Verify;
  /** Told of versions that devices should know of. */
  readonly onNews: (news: Versions) => void;
};

const NONE: SignedEnvelope = create(SignedEnvelopeSchema);

/** The signed statements that devices fetch: who was revoked, and which certificates are shown in TLS. */
export class Notices {
  readonly #parts: NoticesParts;
  readonly #kept = new Map<Kind, { readonly version: number; readonly envelope: SignedEnvelope }>();

  constructor(parts: NoticesParts) {
    this.#parts = parts;
  }

  /** Takes up what the store has. */
  async start(): Promise<void> {
    for (const kind of ["revocations", "tls"] as const) {
      const kept = await this.#parts.store.trust.statement(kind);
      if (kept)
        this.#keep(kind, kept.version, decode(SignedEnvelopeSchema, kept.envelope, MAX_MESSAGE_BYTES));
    }
  }

  get notice(): Notice {
    const [revocations, tls] = [this.#kept.get("revocations"), this.#kept.get("tls")];
    return create(NoticeSchema, {
      revocations: revocations?.version ?? 0,
      tlsCertificates: tls?.version ?? 0,
    });
  }

  /** An envelope without anything in it where there is none. */
  revocations(): SignedEnvelope {
    return this.#kept.get("revocations")?.envelope ?? NONE;
  }

  tlsCertificates(): SignedEnvelope {
    return this.#kept.get("tls")?.envelope ?? NONE;
  }

  /**
   * Checks an owner's list that revokes one more device. `kept` is to be called once it is durable.
   * @throws Fault for a list that no owner signed, that lacks the device, or somebody who was on it before.
   */
  nextRevocations(
    envelope: SignedEnvelope,
    device: string,
  ): { readonly statement: Statement; readonly kept: () => void } {
    const { list } = openRevocations(envelope, this.#trust());
    const before = this.#kept.get("revocations")?.envelope;
    checkGrown(before ? openRevocations(before, this.#trust()).list : NO_REVOCATIONS, list);
    demand(
      list.revocations.some(({ name }) => name === device),
      () => new Fault("bad-input", "revocations", { expected: `a list with ${device.slice(0, 64)}` }),
    );
    const statement = { version: list.version, envelope: encode(SignedEnvelopeSchema, envelope) };
    return { statement, kept: () => this.#tell("revocations", list.version, envelope) };
  }

  /**
   * The certificates, DER, that are shown in TLS from now on: this coordinator's, then those of others of the
   * federation. Where devices do not know them a new list is signed, with those of before that are still good
   * behind them. Devices hear of it on their streams; who is away fetches the list before it trusts the
   * connection.
   */
  async shows(
    ders: readonly Uint8Array[],
    isGood = (der: Uint8Array) => isStillGood(der, this.#parts.clock.wallMs()),
  ): Promise<void> {
    const kept = this.#kept.get("tls");
    const before = kept ? openTlsCertificates(kept.envelope, this.#trust()).certificates : [];
    const among = (list: readonly Uint8Array[], der: Uint8Array) => list.some((one) => equalBytes(one, der));
    const isFirst = before[0] !== undefined && ders[0] !== undefined && equalBytes(before[0], ders[0]);
    if (isFirst && ders.every((der) => among(before, der))) return;
    const others = before.filter((one) => !among(ders, one) && isGood(one));
    const certificates = [...ders, ...others].slice(0, MAX_TLS_CERTIFICATES);
    const version = (kept?.version ?? 0) + 1;
    const { coordinator } = this.#parts.federation;
    const envelope = signTlsCertificates({ version, certificates, nowS: this.#trust().nowS }, coordinator);
    const statement = { version, envelope: encode(SignedEnvelopeSchema, envelope) };
    await this.#parts.store.trust.putStatement("tls", statement);
    this.#tell("tls", version, envelope);
  }

  #tell(kind: Kind, version: number, envelope: SignedEnvelope): void {
    this.#keep(kind, version, envelope);
    const { revocations, tlsCertificates } = this.notice;
    this.#parts.onNews({ revocations, tlsCertificates });
  }

  #keep(kind: Kind, version: number, envelope: SignedEnvelope): void {
    this.#kept.set(kind, { version, envelope });
  }

  #trust() {
    const { federation, clock, verify } = this.#parts;
    return { authority: federation.authority, nowS: Math.floor(clock.wallMs() / 1000), verify };
  }
}

function isStillGood(der: Uint8Array, nowMs: number): boolean {
  try {
    return Date.parse(new X509Certificate(der).validTo) > nowMs;
  } catch {
    return false;
  }
}
