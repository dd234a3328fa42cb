import { equalBytes } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import type { Clock } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import {
  checkToken,
  type Identity,
  validityOf,
  verifyCertificate,
  verifyGrant,
} from "@tutti/identity/certificate";
import { denied } from "@tutti/identity/denial";
import type { Verify } from "@tutti/identity/keys";
import { checkRenewal, checkSuccessor } from "@tutti/identity/renewal";
import { type Certificate, CertificateSchema } from "@tutti/wire/device";
import { decode, encode } from "@tutti/wire/message";
import { type RenewalRequest, RenewalRequestSchema } from "@tutti/wire/standing";
import { failpoint } from "../failpoint.ts";
import type { Federation } from "../folder/federation.ts";
import type { Party } from "../grpc/authenticate.ts";
import type { Store } from "../store/store.ts";

export type RegistryParts = {
  readonly store: Store;
  readonly federation: Pick<Federation, "authority" | "owners" | "config">;
  readonly clock: Clock;
  readonly verify: Verify;
};

const MAX_CERTIFICATE_BYTES = 64 << 10;
const DAY_S = 86_400;

/** Who is enrolled, until when, and how that goes on: certificates as the coordinator has them. */
export class Registry {
  readonly #parts: RegistryParts;
  /** Of certificates as they were read: the same bytes in memory need no second look. */
  readonly #identities = new WeakMap<Uint8Array, Identity>();
  /** The last in turn of each device that asks for a renewal just now. */
  readonly #renewing = new Map<string, Promise<unknown>>();

  constructor(parts: RegistryParts) {
    this.#parts = parts;
  }

  /**
   * The key behind a name, an enrolled device's or an owner's; and why nothing of it is taken all the same.
   * Undefined for a name that nobody has.
   */
  async lookup(name: string): Promise<Party | undefined> {
    const owner = this.#parts.federation.owners.find((one) => one.name === name);
    if (owner) return { publicKey: owner.publicKey, role: "owner", labels: {} };
    const device = await this.#parts.store.device(name);
    if (!device) return undefined;
    const { publicKey, labels, notAfterS } = this.#identityOf(device.certificate);
    const party = { publicKey, labels, role: "device" };
    if (device.revoked) return { ...party, denied: denied(name, "revoked") };
    const ended = `one that expired ${new Date(notAfterS * 1000).toISOString()}`;
    return this.#nowS() > notAfterS ? { ...party, denied: denied(name, "expired", ended) } : party;
  }

  /**
   * @throws Fault naming the link that fails, a name or token that was used, or a site that is full; and what
   * `check` throws, which is asked before anything is kept.
   */
  async enrol(
    certificate: Certificate | undefined,
    check: (name: string, publicKey: Uint8Array) => void = () => {},
  ): Promise<Identity> {
    demand(
      certificate,
      () => new Fault("bad-message", "enrolment", { expected: "a certificate", got: "none" }),
    );
    const { store, federation } = this.#parts;
    const identity = verifyCertificate(certificate, { ...this.#trust(), role: "device" });
    const { name, serial, site, siteLimit } = identity;
    check(name, identity.publicKey);
    failpoint("enrol.checked");
    // What the authority signed no operator can raise; the operator may allow less.
    const limits = [siteLimit, federation.config.identity.devicesPerSite ?? 0].filter((n) => n > 0);
    const limit = limits.length > 0 ? Math.min(...limits) : 0;
    const bytes = encode(CertificateSchema, certificate);
    // A joining that was cut short after it enrolled is finished whenever it comes again.
    const known = await store.device(name);
    if (!known || !equalBytes(known.certificate, bytes)) checkToken(identity, this.#nowS());
    await store.addDevice({ name, serial, certificate: bytes, site, siteLimit: limit });
    failpoint("enrol.durable");
    return identity;
  }

  /**
   * What the authority granted since the device asked, or null: then the request is kept. The certificate in
   * it is taken up where it is newer than the one here. @throws Fault("refused") saying why, by `denied`.
   */
  async renew(request: RenewalRequest): Promise<Certificate | null> {
    const graceS = this.#parts.federation.config.identity.renewalGraceDays * DAY_S;
    const identity = checkRenewal(request, { ...this.#trust(), graceS });
    const { name } = identity;
    mustBeItsKey(await this.#heldBy(name), identity.publicKey);
    // However often it asks at once: it never takes more of the store than one device's part.
    return await this.#inTurn(name, () => this.#renew(request, identity));
  }

  async #renew(request: RenewalRequest, identity: Identity): Promise<Certificate | null> {
    const { name, serial, notAfterS } = identity;
    const { trust } = this.#parts.store;
    const known = await this.#heldBy(name);
    const certificate = encode(CertificateSchema, request.certificate!);
    if (notAfterS > known.notAfterS) {
      checkSuccessor(known, identity);
      await trust.renew(name, { serial, certificate });
    }
    if (request.days === 0) return null;
    const latest = Math.max(known.notAfterS, notAfterS);
    const granted = await trust.askRenewal({
      name,
      request: encode(RenewalRequestSchema, request),
      isUseful: (bytes) =>
        validityOf(decode(CertificateSchema, bytes, MAX_CERTIFICATE_BYTES)).notAfterS > latest,
      isSame: (bytes) => {
        const kept = decode(RenewalRequestSchema, bytes, MAX_CERTIFICATE_BYTES);
        const same = kept.certificate && encode(CertificateSchema, kept.certificate);
        return same !== undefined && equalBytes(same, certificate) && kept.days === request.days;
      },
    });
    return granted && decode(CertificateSchema, granted, MAX_CERTIFICATE_BYTES);
  }

  /** @throws Fault("refused") for a device that is unknown or revoked, by `denied`. */
  async #heldBy(name: string): Promise<Identity> {
    const device = await this.#parts.store.device(name);
    if (!device) throw denied(name, "unknown");
    if (device.revoked) throw denied(name, "revoked");
    return this.#identityOf(device.certificate);
  }

  async #inTurn<T>(name: string, act: () => Promise<T>): Promise<T> {
    const mine = (this.#renewing.get(name) ?? Promise.resolve()).then(act);
    const over = mine.catch(() => {});
    this.#renewing.set(name, over);
    try {
      return await mine;
    } finally {
      if (this.#renewing.get(name) === over) this.#renewing.delete(name);
    }
  }

  /** Requests that nobody answered, as devices signed them. */
  async renewals(): Promise<RenewalRequest[]> {
    const waiting = await this.#parts.store.trust.renewals();
    return waiting.map((bytes) => decode(RenewalRequestSchema, bytes, MAX_CERTIFICATE_BYTES));
  }

  /** Keeps what the authority signed until the device fetches it. */
  async grant(name: string, grant: Certificate | undefined): Promise<void> {
    demand(grant, () => new Fault("bad-message", "grant", { expected: "a certificate", got: "none" }));
    const identity = verifyGrant(grant, this.#trust());
    const { store } = this.#parts;
    // From here on the name is one that a certificate has.
    demand(
      identity.name === name,
      () => new Fault("bad-input", "grant", { expected: `one for ${name}`, got: identity.name }),
    );
    const known = await this.#heldBy(name);
    mustBeItsKey(known, identity.publicKey);
    const asked = await store.trust.grantRenewal(name, encode(CertificateSchema, grant));
    demand(asked, () => new Fault("not-found", `renewal of ${name}`, { got: "no request" }));
  }

  /** As of the last day of an expired one: it was good when it was stored. */
  #identityOf(bytes: Uint8Array): Identity {
    const known = this.#identities.get(bytes);
    if (known) return known;
    const certificate = decode(CertificateSchema, bytes, MAX_CERTIFICATE_BYTES);
    const trust = this.#trust();
    const nowS = Math.min(trust.nowS, validityOf(certificate).notAfterS);
    const identity = verifyCertificate(certificate, { ...trust, nowS, role: "device" });
    this.#identities.set(bytes, identity);
    return identity;
  }

  #trust() {
    const { federation, verify } = this.#parts;
    return { authority: federation.authority, nowS: this.#nowS(), verify };
  }

  #nowS(): number {
    return Math.floor(this.#parts.clock.wallMs() / 1000);
  }
}

function mustBeItsKey({ name, publicKey }: Identity, other: Uint8Array): void {
  demand(
    equalBytes(publicKey, other),
    () =>
      new Fault("refused", `certificate of ${name}`, {
        expected: "the key it enrolled with",
        got: "another",
      }),
  );
}
