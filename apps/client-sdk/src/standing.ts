import { demand } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import { queue } from "@tutti/foundation/queue";
import { validityOf } from "@tutti/identity/certificate";
import { denialOf } from "@tutti/identity/denial";
import { completeRenewal, daysOf, isDue, requestRenewal } from "@tutti/identity/renewal";
import { envelopeJson } from "@tutti/release/dsse";
import { checkGrown, openRevocations } from "@tutti/release/revocations";
import { openTlsCertificates } from "@tutti/release/tls";
import { type Notice, NoticeSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { RevocationsRequestSchema, TlsCertificatesRequestSchema } from "@tutti/wire/standing";
import { isApproved } from "./policy.ts";
import { keptRevocations, REVOKED } from "./revoked.ts";
import { type Site, trustOf } from "./site.ts";

/** A request waits for a person; should the word that it was signed get lost, it is said again. */
const ASK_AGAIN_MS = 6 * 3_600_000;
/** A renewal falls due on some day; timers are not made for longer. */
const LONGEST_SLEEP_MS = 24 * 3_600_000;
/** A federation's devices fetch what all of them are told of within this time. */
const SPREAD_MS = 2_000;
/** An expired device has no stream to be told on. */
const EXPIRED_WAIT_MS = { least: 1_000, most: 15 * 60_000 } as const;

/**
 * What keeps this device's trust, and others' in it, up to date: its certificate goes on by itself, it learns
 * who was revoked, and which TLS certificates its coordinator will show. Everything fetched is signed.
 */
export class Standing {
  readonly #site: Site;
  readonly #signal: AbortSignal;
  /** One after the other: two that renew at once would ask for two certificates. */
  readonly #inTurn = queue();
  readonly #known = { revocations: 0, tls: 0 };
  /** What the stream said and was not looked at yet. */
  #waiting: Notice | null = null;
  #isAsking = false;
  /** Whether a coordinator has this device's request. */
  #asked = false;

  constructor(site: Site, signal: AbortSignal) {
    this.#site = site;
    this.#signal = signal;
  }

  /** What a greeting says there is to fetch: fetched at once, one after the other. */
  greeted(notice: Notice | undefined): void {
    const { link } = this.#site;
    if (!notice || !link.standing) return;
    this.#later(() => this.#fetchRevocations(notice.revocations));
    this.#later(() => this.#fetchTls(notice.tlsCertificates));
    // What could not be asked for while nobody answered.
    if (notice.renewed || (this.#isDue() && !this.#asked)) this.#askLater();
  }

  /** What the stream says: every device hears it at the same moment, so each waits for one of its own. */
  heard(notice: Notice): void {
    const { clock, jitter } = this.#site;
    const waiting = this.#waiting;
    this.#waiting = waiting ? newest(waiting, notice) : notice;
    // However many come, they are looked at together.
    if (waiting) return;
    const forAll = notice.revocations + notice.tlsCertificates > 0;
    const waitMs = forAll ? jitter.uniform() * SPREAD_MS : 0;
    const look = () => {
      const all = this.#waiting;
      this.#waiting = null;
      this.greeted(all ?? undefined);
    };
    clock.sleep(waitMs, this.#signal).then(look, () => {});
  }

  /** Asks for a new certificate when the present one is two thirds through, until the signal. */
  async watch(): Promise<void> {
    const { clock } = this.#site;
    if (!this.#renews()) return;
    while (!this.#signal.aborted) {
      const due = this.#isDue();
      if (due) this.#askLater();
      await clock.sleep(due ? ASK_AGAIN_MS : LONGEST_SLEEP_MS, this.#signal).catch(() => {});
    }
  }

  /**
   * Whether it is worth trying again though the coordinator refused: an expired certificate may be renewed by
   * now, or soon; how long to wait before that. Null where waiting mends nothing.
   */
  async mends(because: Fault): Promise<number | null> {
    if (denialOf(because) !== "expired" || !this.#renews()) return null;
    try {
      const waitMs = await this.#inTurn(() => this.#renew());
      return Math.min(EXPIRED_WAIT_MS.most, Math.max(EXPIRED_WAIT_MS.least, waitMs));
    } catch (error) {
      const fault = asFault(error);
      if (fault.code === "unavailable" || fault.code === "deadline") return EXPIRED_WAIT_MS.least;
      // Beyond the grace period, or revoked meanwhile: what the device was told first says what to do.
      this.#refuse(fault);
      return null;
    }
  }

  /** Resolves when what was heard so far is done. */
  async settled(): Promise<void> {
    await this.#inTurn(() => {});
  }

  #renews(): boolean {
    const { identity, link } = this.#site;
    return identity.keep !== undefined && link.standing !== undefined;
  }

  #isDue(): boolean {
    return this.#renews() && isDue(this.#site.identity.certificate, this.#nowS());
  }

  /** Once, however often it is said before that is done. */
  #askLater(): void {
    if (!this.#renews() || this.#isAsking) return;
    this.#isAsking = true;
    this.#later(async () => {
      this.#isAsking = false;
      await this.#renew();
    });
  }

  /** Asks for what is due, and takes what was granted. How long to wait where that is not there yet. */
  async #renew(): Promise<number> {
    const { identity, link, clock, emit, verify } = this.#site;
    const { key, certificate: present, authority } = identity;
    const nowS = this.#nowS();
    // One that is good already may be unknown to a coordinator that a backup was restored to: it is shown.
    const days = isDue(present, nowS) ? daysOf(present) : 0;
    const ask = requestRenewal(key, { certificate: present, days, nowS });
    const { grant, retryAfterMs } = await link.standing!.renew(ask, this.#signal);
    this.#asked = true;
    if (!grant) return days === 0 ? 0 : retryAfterMs;
    const trusting = { authority, nowS: Math.floor(clock.wallMs() / 1000), ...(verify && { verify }) };
    const certificate = completeRenewal(key, { grant, present, ...trusting });
    await identity.keep!(certificate);
    emit({ kind: "renewed", untilS: validityOf(certificate).notAfterS });
    await link.standing!.renew(requestRenewal(key, { certificate, days: 0, nowS }), this.#signal);
    return 0;
  }

  async #fetchRevocations(version: number): Promise<void> {
    const { link, store, policy } = this.#site;
    if (version <= this.#known.revocations) return;
    const before = await keptRevocations(store);
    this.#known.revocations = Math.max(this.#known.revocations, before.version);
    if (version <= before.version) return;
    const envelope = await link.standing!.revocations(create(RevocationsRequestSchema), this.#signal);
    const { list, signer } = openRevocations(envelope, trustOf(this.#site));
    demand(
      isApproved(policy, signer),
      () => new Fault("refused", "revocations", { expected: "an approved owner's", got: signer.name }),
    );
    checkGrown(before, list);
    await store.putDocument(REVOKED, envelopeJson(envelope));
    this.#known.revocations = list.version;
  }

  async #fetchTls(version: number): Promise<void> {
    const { link } = this.#site;
    if (!link.pins || version <= this.#known.tls || version <= link.pins.version) return;
    const envelope = await link.standing!.tlsCertificates(create(TlsCertificatesRequestSchema), this.#signal);
    const list = openTlsCertificates(envelope, trustOf(this.#site));
    if (list.version > link.pins.version) await link.pins.renew(list, envelopeJson(envelope));
    this.#known.tls = list.version;
  }

  #later(job: () => Promise<void>): void {
    void this.#inTurn(job).catch((error: unknown) => this.#refuse(error));
  }

  #refuse(error: unknown): void {
    const because = asFault(error);
    const passes = because.code === "unavailable" || because.code === "deadline";
    // What could not be fetched now is fetched with the next greeting.
    if (!this.#signal.aborted && !passes) this.#site.emit({ kind: "refused", because });
  }

  #nowS(): number {
    return Math.floor(this.#site.clock.wallMs() / 1000);
  }
}

function newest(one: Notice, other: Notice): Notice {
  return create(NoticeSchema, {
    revocations: Math.max(one.revocations, other.revocations),
    tlsCertificates: Math.max(one.tlsCertificates, other.tlsCertificates),
    renewed: one.renewed || other.renewed,
  });
}
