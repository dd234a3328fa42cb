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
    if (this.leads) return this.#term!;
    throw standby(this.#now);
  }

  /** Whether whoever asks here need ask nobody else. */
  get leads(): boolean {
    return this.#term !== null && this.holds();
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

  /** True where the term has the word from here on: one that began too late, its epoch over, never has. */
  enter(term: Term): boolean {
    const now = this.#now;
    if (now.kind !== "leader" || now.epoch !== term.epoch) return false;
    this.#term = term;
    this.#tell(now);
    return true;
  }

  /** An epoch's end, maybe long after it was over: what this process has become since stays as it is. */
  leave(epoch: number): void {
    if (this.#now.kind === "leader" && this.#now.epoch === epoch)
      this.become({ kind: "standby", leader: null });
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
