import { X509Certificate } from "node:crypto";
import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import type { Verify } from "@tutti/identity/keys";
import {
  checkGrown,
  isSameList,
  NO_REVOCATIONS,
  openRevocations,
  readRevocations,
} from "@tutti/release/revocations";
import { MAX_TLS_CERTIFICATES, openTlsCertificates, signTlsCertificates } from "@tutti/release/tls";
import { type Notice, NoticeSchema } from "@tutti/wire/device";
import { create, decode, encode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { RevocationList } from "@tutti/wire/standing";
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
    for (const kind of ["revocations", "tls"] as const) await this.#takeUp(kind);
  }

  /**
   * Takes up a list that the store has and this has not: a write that failed may be durable. Whom it adds; to
   * `tell` of it is the caller's.
   */
  async takeUpRevocations(): Promise<string[]> {
    const before = new Set(namesOn(this.#revocationList()));
    const isNew = await this.#takeUp("revocations");
    return isNew ? namesOn(this.#revocationList()).filter((name) => !before.has(name)) : [];
  }

  isListed(device: string): boolean {
    return namesOn(this.#revocationList()).includes(device);
  }

  /** Tells of what is here. */
  tell(): void {
    const { revocations, tlsCertificates } = this.notice;
    this.#parts.onNews({ revocations, tlsCertificates });
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
   * Checks an owner's list that revokes one more device. `kept` is to be called once it is durable, and
   * `tell` once the device is out of what goes on. What is here already, said again: fine.
   * @throws Fault for a list that no owner signed, that lacks the device, or somebody who was on it before.
   */
  nextRevocations(
    envelope: SignedEnvelope,
    device: string,
  ): { readonly statement: Statement; readonly kept: () => void } {
    const { list } = openRevocations(envelope, this.#trust());
    const [kept, before] = [this.#kept.get("revocations"), this.#revocationList()];
    // By who did not hear that it is durable, and may have signed it anew since.
    const isAgain = kept !== undefined && isSameList(before, list);
    if (!isAgain) checkGrown(before, list);
    demand(
      namesOn(list).includes(device),
      () => new Fault("bad-input", "revocations", { expected: `a list with ${device.slice(0, 64)}` }),
    );
    const signed = isAgain ? kept.envelope : envelope;
    const statement = { version: list.version, envelope: encode(SignedEnvelopeSchema, signed) };
    return { statement, kept: () => this.#keep("revocations", list.version, signed) };
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
    await this.#takeUpTls();
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
    try {
      await this.#parts.store.trust.putStatement("tls", statement);
    } catch (cause) {
      // It may be durable all the same: only reading can tell.
      await this.#takeUpTls();
      const there = this.#kept.get("tls")?.envelope.payload;
      if (there && equalBytes(there, envelope.payload)) return;
      throw cause;
    }
    this.#keep("tls", version, envelope);
    this.tell();
  }

  async #takeUpTls(): Promise<void> {
    if (await this.#takeUp("tls")) this.tell();
  }

  /** Whether the store has a newer one than this, which is here from now on. */
  async #takeUp(kind: Kind): Promise<boolean> {
    const there = await this.#parts.store.trust.statement(kind);
    const before = this.#kept.get(kind)?.version ?? 0;
    if (!there || there.version <= before) return false;
    this.#keep(kind, there.version, decode(SignedEnvelopeSchema, there.envelope, MAX_MESSAGE_BYTES));
    return true;
  }

  /** As it was checked before it was kept; whoever signed it may have no good certificate any more. */
  #revocationList(): RevocationList {
    const kept = this.#kept.get("revocations");
    return kept ? readRevocations(kept.envelope.payload) : NO_REVOCATIONS;
  }

  /** The newest wins, whoever read or wrote it first. */
  #keep(kind: Kind, version: number, envelope: SignedEnvelope): void {
    if (version > (this.#kept.get(kind)?.version ?? 0)) this.#kept.set(kind, { version, envelope });
  }

  #trust() {
    const { federation, clock, verify } = this.#parts;
    return { authority: federation.authority, nowS: Math.floor(clock.wallMs() / 1000), verify };
  }
}

function namesOn({ revocations }: RevocationList): string[] {
  return revocations.map(({ name }) => name);
}

function isStillGood(der: Uint8Array, nowMs: number): boolean {
  try {
    return Date.parse(new X509Certificate(der).validTo) > nowMs;
  } catch {
    return false;
  }
}
