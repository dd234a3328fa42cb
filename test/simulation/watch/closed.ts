import type { Plan } from "@tutti/plan/plan";
import type { RunHeader } from "@tutti/wire/journal";
import type { SignedEnvelope } from "@tutti/wire/release";
import type { Task } from "@tutti/wire/round";
import { Violation } from "../witness.ts";
import type { World } from "../world.ts";

type Held = { readonly digest: string; readonly envelope: SignedEnvelope };

/** A round that ended with a result, as it is durable. */
export type Closed = {
  readonly plan: Plan;
  readonly planEnvelope: SignedEnvelope;
  readonly task: Task;
  readonly attempt: number;
  /** The run's header before the round ended, and after. */
  readonly before: RunHeader;
  readonly header: RunHeader;
  /** Releases by version, and the one that it started from. */
  readonly releases: readonly Held[];
  readonly parent: Held;
  /** The newest release after it. */
  readonly made: Held;
};

/** What is durable by its hash. */
export function file({ shelf }: World, sha256: string, what: string): Uint8Array {
  const bytes = shelf.get(sha256);
  if (bytes) return bytes;
  throw new Violation(`${what} is named by what is durable, and is not there: ${sha256.slice(0, 12)}`);
}
