import type { Coordinator } from "../drive/coordinator.ts";
import { standby, type Term } from "./gate.ts";
import type { Role } from "./keeper.ts";

/** Who has the word in this process: the term that is at work, while it is the leader's. */
export class Office {
  /** What others are told; a leader's once its term is at work, since it answers nobody before. */
  role: Role = { kind: "standby", leader: null };
  /** What this process has become, though its term may only be beginning. */
  #now: Role = this.role;
  /** Whether the lease goes on, asked at every call: a process that was stopped may not know yet. */
  holds: () => boolean = () => true;
  #term: Term | null = null;
  readonly #watchers = new Set<(role: Role) => void>();

  /** @throws Fault("unavailable") on a standby, saying where the leader is. */
  term(): Term {
    if (this.#term !== null && this.holds()) return this.#term;
    throw standby(this.#now);
  }

  /** What is at work while this process leads. */
  get coordinator(): Coordinator | null {
    return this.#term?.coordinator ?? null;
  }

  become(role: Role): void {
    this.#now = role;
    if (role.kind === "leader") return;
    this.#term = null;
    this.#tell(role);
  }

  /** A term that began too late, when its epoch was over, never has the word. */
  enter(term: Term): void {
    const now = this.#now;
    if (now.kind !== "leader" || now.epoch !== term.epoch) return;
    this.#term = term;
    this.#tell(now);
  }

  #tell(role: Role): void {
    this.role = role;
    for (const callback of this.#watchers) callback(role);
  }

  onRole(callback: (role: Role) => void): () => void {
    this.#watchers.add(callback);
    callback(this.role);
    return () => this.#watchers.delete(callback);
  }
}
