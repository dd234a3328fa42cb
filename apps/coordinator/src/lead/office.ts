import type { Coordinator } from "../drive/coordinator.ts";
import { standby, type Term } from "./gate.ts";
import type { Role } from "./keeper.ts";

/** Who has the word in this process: the term that is at work, while it is the leader's. */
export class Office {
  role: Role = { kind: "standby", leader: null };
  /** Whether the lease goes on, asked at every call: a process that was stopped may not know yet. */
  holds: () => boolean = () => true;
  #term: Term | null = null;
  readonly #watchers = new Set<(role: Role) => void>();

  /** @throws Fault("unavailable") on a standby, saying where the leader is. */
  term(): Term {
    if (this.#term !== null && this.holds()) return this.#term;
    throw standby(this.role);
  }

  /** What is at work while this process leads. */
  get coordinator(): Coordinator | null {
    return this.#term?.coordinator ?? null;
  }

  become(role: Role): void {
    if (role.kind === "standby") this.#term = null;
    this.role = role;
    for (const callback of this.#watchers) callback(role);
  }

  /** A term that began too late, when its epoch was over, never has the word. */
  enter(term: Term): void {
    if (this.role.kind === "leader" && this.role.epoch === term.epoch) this.#term = term;
  }

  onRole(callback: (role: Role) => void): () => void {
    this.#watchers.add(callback);
    callback(this.role);
    return () => this.#watchers.delete(callback);
  }
}
