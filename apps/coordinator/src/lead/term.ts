import { platformRandom } from "@tutti/foundation/random";
import { verifyCertificate } from "@tutti/identity/certificate";
import { CertificateSchema } from "@tutti/wire/device";
import { decode } from "@tutti/wire/message";
import { Coordinator, type CoordinatorParts } from "../drive/coordinator.ts";
import { failpoint } from "../failpoint.ts";
import { authenticator } from "../grpc/authenticate.ts";
import { adminHandlers } from "../handlers/admin.ts";
import { federationHandlers } from "../handlers/federation.ts";
import { nativeVerify } from "../native.ts";
import type { Term } from "./gate.ts";

/** Takes up every run that the store knows; what answers from then on is as new as after a restart. */
export async function beginTerm(parts: CoordinatorParts): Promise<Term> {
  const { clock, store } = parts;
  const coordinator = new Coordinator(parts);
  const auth = authenticator({
    lookup: (name) => lookup(coordinator, name),
    nowMs: () => clock.wallMs(),
    random: platformRandom(),
    // Each request's signature is another one.
    verify: nativeVerify,
  });
  try {
    await coordinator.start();
  } catch (cause) {
    await coordinator.close();
    throw cause;
  }
  failpoint("serve.resumed");
  return {
    epoch: store.epoch,
    coordinator,
    federation: federationHandlers(coordinator, auth),
    admin: adminHandlers(coordinator),
    authenticate: auth.authenticate,
    end: () => coordinator.close(),
  };
}

/** The key behind a name: an enrolled device's that is not revoked, or an owner's of this federation. */
async function lookup({ parts }: Coordinator, name: string) {
  const owner = parts.federation.owners.find((one) => one.name === name);
  if (owner) return { publicKey: owner.publicKey, role: "owner", labels: {} };
  const device = await parts.store.device(name);
  if (!device || device.revoked) return undefined;
  const nowS = Math.floor(parts.clock.wallMs() / 1000);
  const { authority } = parts.federation;
  const certificate = decode(CertificateSchema, device.certificate, 64 << 10);
  return verifyCertificate(certificate, { authority, role: "device", nowS, verify: parts.verify });
}
