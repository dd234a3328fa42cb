import { Fault } from "@tutti/foundation/fault";
import { validityOf } from "@tutti/identity/certificate";
import { AckSchema, CertificateBodySchema, CertificateSchema } from "@tutti/wire/device";
import { create, decode } from "@tutti/wire/message";
import type { Call, Handlers } from "@tutti/wire/rpc";
import { DeviceRecordSchema, type Register, RenewalReplySchema, type Standing } from "@tutti/wire/standing";
import type { Coordinator } from "../drive/coordinator.ts";

/** A device whose request waits for a person asks again so often, unless a notice comes before. */
const RETRY_AFTER_MS = 60_000;
const MAX_CERTIFICATE_BYTES = 64 << 10;

/** What devices ask about trust; the first two are open, since what they carry is signed by itself. */
export function standingHandlers({ registry, notices }: Coordinator): Handlers<typeof Standing> {
  return {
    async renew(request) {
      const grant = await registry.renew(request);
      return create(RenewalReplySchema, { ...(grant && { grant }), retryAfterMs: RETRY_AFTER_MS });
    },
    tlsCertificates: async () => notices.tlsCertificates(),
    async revocations(_request, call) {
      mustBe(call, "device");
      return notices.revocations();
    },
  };
}

/** What owners ask about trust. */
export function registerHandlers(coordinator: Coordinator): Handlers<typeof Register> {
  const { registry, notices } = coordinator;
  const { store } = coordinator.parts;
  return {
    async *devices(_request, call) {
      mustBe(call, "owner");
      for (const device of await store.trust.listed()) {
        const certificate = decode(CertificateSchema, device.certificate, MAX_CERTIFICATE_BYTES);
        const { labels, site, serial } = decode(
          CertificateBodySchema,
          certificate.body,
          MAX_CERTIFICATE_BYTES,
        );
        yield create(DeviceRecordSchema, {
          ...validityOf(certificate),
          name: device.name,
          revoked: device.revoked,
          enrolledMs: device.addedMs,
          renewalPending: device.asks,
          labels,
          site,
          serial,
          connected: coordinator.presence.isConnected(device.name),
          lastSeenMs: coordinator.presence.lastSeenMs(device.name) ?? 0,
        });
      }
    },
    async *renewals(_request, call) {
      mustBe(call, "owner");
      yield* await registry.renewals();
    },
    async grant({ device, grant }, call) {
      mustBe(call, "owner");
      await registry.grant(device, grant);
      coordinator.presence.remark({ renewed: true }, device);
      return create(AckSchema);
    },
    async revocations(_request, call) {
      mustBe(call, "owner");
      return notices.revocations();
    },
  };
}

function mustBe({ caller }: Call, role: "device" | "owner"): void {
  if (caller?.role === role) return;
  const expected = role === "owner" ? "a run owner's signature" : "a device's signature";
  throw new Fault("refused", "request", { expected, got: caller?.role ?? "no signature" });
}
