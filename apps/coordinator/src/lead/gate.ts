import { Fault } from "@tutti/foundation/fault";
import type { Admin } from "@tutti/wire/admin";
import type { Federation } from "@tutti/wire/round";
import type { DescService, Handlers } from "@tutti/wire/rpc";
import type { Register, Standing } from "@tutti/wire/standing";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Authenticate } from "../grpc/authenticate.ts";
import type { Reign, Role } from "./keeper.ts";

/** A federation's coordinator at work under one epoch: what answers while this process leads. */
export type Term = Reign & {
  readonly epoch: number;
  readonly coordinator: Coordinator;
  readonly federation: Handlers<typeof Federation>;
  readonly admin: Handlers<typeof Admin>;
  readonly standing: Handlers<typeof Standing>;
  readonly register: Handlers<typeof Register>;
  readonly authenticate: Authenticate;
};

/** How a standby answers everything: it is not asked twice by a client that knows other addresses. */
export function standby(role: Role): Fault {
  const got = role.kind === "leader" ? "one that is just beginning to lead" : "a standby";
  const leader = role.kind === "standby" ? role.leader : null;
  return new Fault("unavailable", "this coordinator", {
    expected: "the one that leads",
    got,
    // Without a time to come again: that would be to come here, and another may lead by now (ring.ts).
    todo: leader ? `Ask ${leader}` : "Ask again in a moment, or another",
  });
}

/** Handlers that are whoever's has the word when they are called; `current` throws where nobody has. */
export function gated<S extends DescService>(service: S, current: () => Handlers<S>): Handlers<S> {
  const calls = service.methods.map(({ localName, methodKind }) => {
    const now = () => (current() as Record<string, (...args: unknown[]) => unknown>)[localName]!;
    const call =
      methodKind === "server_streaming"
        ? async function* (...args: unknown[]) {
            yield* now()(...args) as AsyncIterable<unknown>;
            // A stream that ended since this process gives the word away says so, and when to come back.
            current();
          }
        : async (...args: unknown[]) => await now()(...args);
    return [localName, call] as const;
  });
  // Each function hands its arguments to the one of the same name and kind.
  return Object.fromEntries(calls) as unknown as Handlers<S>;
}
