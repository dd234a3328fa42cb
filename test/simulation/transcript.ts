import { createHash } from "node:crypto";

/** Lines kept for a failure's report: its last ones, where nobody reads along. */
const KEPT = 400;

/**
 * Who said what, and what was done to them, in virtual time: a line each. All lines make the hash, so that
 * two runs of one seed can be compared; who reads along sees each as it comes.
 */
export class Transcript {
  readonly #hash = createHash("sha256");
  readonly #read: ((line: string) => void) | null;
  readonly last: string[] = [];
  lines = 0;

  constructor(read: ((line: string) => void) | null = null) {
    this.#read = read;
  }

  add(atMs: number, who: string, what: string): void {
    const line = `${(atMs / 1000).toFixed(3).padStart(9)}  ${who.padEnd(12)} ${what}`;
    this.lines++;
    this.#hash.update(line).update("\n");
    this.#read?.(line);
    if (this.last.push(line) > 2 * KEPT) this.last.splice(0, KEPT);
  }

  digest(): string {
    return this.#hash.copy().digest("hex");
  }
}
