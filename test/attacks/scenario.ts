import type { Fault } from "@tutti/foundation/fault";

/**
 * A text of one source file, found exactly once, and what stands there instead when the defence is out.
 * `file` is relative to the repository's root.
 */
export type Patch = { readonly file: string; readonly find: string; readonly replace: string };

/** What is taken out together: one defence, or all of those that stand against one attack in depth. */
export type Mutation = { readonly out: string; readonly patches: readonly Patch[] };

/** What a scenario found. `broken` is neither: the scenario itself does not do what it says. */
export type Outcome =
  | {
      readonly kind: "refused";
      /** Code and sentence; of an attack that meets a mask and no check, what it was left with. */
      readonly because: string;
      /** Messages of a session that the attacked party sent in answer. */
      readonly sentAfter: number;
    }
  | { readonly kind: "worked"; readonly evidence: string }
  | { readonly kind: "broken"; readonly why: string };

/** Who attacks whom: a coordinator real devices, a device a real coordinator, or a unit where it lives. */
export type Harness = "coordinator" | "device" | "unit";

/** One attack of docs/attacks.md. `run` may be called once in a process that other scenarios share. */
export type Scenario = {
  /** 1 to 18. */
  readonly row: number;
  readonly name: string;
  readonly harness: Harness;
  /** Each makes the attack work. */
  readonly mutations: readonly Mutation[];
  run(): Promise<Outcome>;
};

/** With the name of its file. */
export type Listed = Scenario & { readonly file: string };

/** What a process that ran attacks has to put away. */
export const endings = new Set<() => Promise<void>>();

export async function endAll(): Promise<void> {
  for (const end of endings) await end();
}

export function worked(evidence: string): Outcome {
  return { kind: "worked", evidence };
}

export function refused(fault: Fault | string, sentAfter = 0): Outcome {
  const because = typeof fault === "string" ? fault : `${fault.code}: ${fault.message}`;
  return { kind: "refused", because, sentAfter };
}

/** Ends an attack from anywhere in it. */
export class Refused extends Error {
  readonly outcome: Outcome;

  constructor(fault: Fault | string, sentAfter = 0) {
    super(typeof fault === "string" ? fault : fault.message);
    this.outcome = refused(fault, sentAfter);
  }
}

/** Runs an attack to its evidence, or to the refusal that it met. */
export async function outcomeOf(attack: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await attack();
  } catch (error) {
    if (error instanceof Refused) return error.outcome;
    return { kind: "broken", why: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** For a text in one file of the repository. */
export function patch(file: string, find: string, replace: string): Patch {
  return { file, find, replace };
}

/** A defence that is one text in one file. */
export function without(out: string, ...patches: readonly Patch[]): Mutation {
  return { out, patches };
}
