import { platformRandom } from "@tutti/foundation/random";
import { Coordinator } from "../drive/coordinator.ts";
import type { CoordinatorParts } from "../drive/parts.ts";
import { failpoint } from "../failpoint.ts";
import { authenticator } from "../grpc/authenticate.ts";
import { adminHandlers } from "../handlers/admin.ts";
import { federationHandlers } from "../handlers/federation.ts";
import { registerHandlers, standingHandlers } from "../handlers/standing.ts";
import { nativeVerify } from "../native.ts";
import { remembering } from "../store/familiar.ts";
import type { Term } from "./gate.ts";

/** Takes up every run that the store knows; what answers from then on is as new as after a restart. */
export async function beginTerm(given: CoordinatorParts): Promise<Term> {
  const parts = { ...given, store: remembering(given.store) };
  const { clock, store } = parts;
  const coordinator = new Coordinator(parts);
  // Expiries count on a clock that nobody sets: no step of the wall clock makes a captured request good.
  const originMs = clock.wallMs() - clock.nowMs();
  const auth = authenticator({
    lookup: (name) => coordinator.registry.lookup(name),
    nowMs: () => originMs + clock.nowMs(),
    random: platformRandom(),
    // Each request's signature is another one.
    verify: nativeVerify,
  });
  try {
    await coordinator.start();
    if (parts.servedDers) await coordinator.notices.shows(parts.servedDers());
  } catch (cause) {
    await coordinator.close();
    throw cause;
  }
  failpoint("serve.resumed");
  return {
    epoch: store.epoch,
    coordinator,
    federation: federationHandlers(coordinator, auth, parts.federation.config.limits),
    admin: adminHandlers(coordinator),
    standing: standingHandlers(coordinator),
    register: registerHandlers(coordinator),
    authenticate: auth.authenticate,
    end: () => coordinator.close(),
  };
}
