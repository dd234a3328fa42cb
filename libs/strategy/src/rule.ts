import { unreachable } from "@tutti/foundation/check";
import type { Plan } from "@tutti/plan/plan";
import { adam } from "./adam.ts";
import { chain } from "./chain.ts";
import { momentum } from "./momentum.ts";
import { scale } from "./scale.ts";
import { type StoredRule, stored } from "./state.ts";
import type { Rule, State } from "./types.ts";

export type { Rule, State, StoredRule };

/** The rule that a plan's `server` field names, with `save` and `load` for its state. */
export function ruleOf(server: Plan["server"]): StoredRule {
  return stored(named(server));
}

function named(server: Plan["server"]): Rule {
  switch (server.name) {
    case "fedavg":
      return scale(server.learningRate);
    case "momentum":
      return chain(momentum(server.beta), scale(server.learningRate));
    case "adam":
      return chain(adam(server), scale(server.learningRate));
    default:
      return unreachable(server);
  }
}
