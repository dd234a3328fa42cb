import { type Clock, within } from "@tutti/foundation/clock";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import type { Plan } from "@tutti/plan/plan";
import type { RunHeader } from "@tutti/wire/journal";
import type { Artifacts } from "../artifacts.ts";
import { failpoint } from "../failpoint.ts";
import type { Log } from "../observe/log.ts";
import { logTrouble } from "../observe/trouble.ts";
import type { Kept, Store, StoredFile } from "../store/store.ts";

export type RetentionOptions = {
  readonly store: Store;
  readonly artifacts: Artifacts;
  /**
   * How many rounds' files stay; a kind that is not named stays for good. Rows go with them: records of
   * history with the evidence, signed manifests with the adapters.
   */
  readonly kept: Keeping;
  /** Whether a run needs a file that no row of its own may tell of: a base model, where it goes on from. */
  readonly isInUse: (sha256: string) => boolean;
  readonly clock: Clock;
  readonly log: Log;
};

/** What stays: of each run, and so many of the audit log's newest entries. */
export type Keeping = Kept & { readonly entries?: number };

/** So many times are entries of the audit log removed after a round: a rule that was just set has years. */
const MAX_REMOVALS = 4;
/** An owner puts a run's files and then starts it. */
const HELD_MS = 3_600_000;
/** So long a removal keeps a new leader from its lease: less than a transaction may stand still. */
const REMOVING_MS = 1_000;
/** Of so many names that owners put at most; the oldest are then held no more. */
const MAX_HELD = 4096;

/** What a run cannot do without, whatever the rule. */
export function needs({ base, initial }: Plan, { adapter, strategy }: RunHeader): string[] {
  return [base.sha256, initial.sha256, adapter, strategy];
}

/** @throws Fault("not-found") naming what a plan starts from and is not there. */
export async function mustHave(artifacts: Artifacts, plan: Plan): Promise<void> {
  for (const [what, { sha256 }] of [
    ["base model", plan.base],
    ["initial adapter", plan.initial],
  ] as const) {
    if (await artifacts.has(sha256)) continue;
    throw new Fault("not-found", `${what} ${sha256.slice(0, 12)}`, {
      todo: "Upload it with Put before starting the run",
    });
  }
}

/** One run's files, as its rounds make them. */
export type Shelf = {
  /** The same artifacts; what is put through them is the round's in progress until that is closed. */
  readonly artifacts: Artifacts;
  /** What the round in progress made, as it is written down with the header that ends it. */
  made(header: RunHeader): StoredFile[];
  /** That header is durable: what is older than it should be goes, beside whatever comes next. */
  closed(header: RunHeader): void;
};

/**
 * Removes what old rounds left, by the federation's rule. Killed at any point it goes on after the next
 * round: a file goes first and its row after it, then rows without files. A file stays while a row of
 * another run has it, or a round in progress put it again.
 */
export class Retention {
  readonly #options: RetentionOptions;
  /** Put by rounds that are not closed, by run. */
  readonly #fresh = new Map<string, Set<string>>();
  /** What runs need that nobody drives yet, by run. */
  readonly #claimed = new Map<string, readonly string[]>();
  /** Put by owners, for runs to come, and until when it stays. */
  readonly #held = new Map<string, number>();
  readonly #going = new Map<string, Promise<void>>();
  readonly #tidying = new Map<string, Promise<void>>();

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  shelf(run: string): Shelf {
    const { artifacts } = this.#options;
    const fresh = new Set<string>();
    this.#fresh.set(run, fresh);
    const putting = async (sha256: string, put: () => Promise<unknown>) => {
      // From here on it is not removed; if it just is, it is put when it is gone.
      fresh.add(sha256);
      await this.#going.get(sha256);
      await put();
      return sha256;
    };
    return {
      artifacts: {
        ...artifacts,
        put: async (sha256, chunks, bytes) =>
          void (await putting(sha256, () => artifacts.put(sha256, chunks, bytes))),
        putBytes: (bytes) => putting(sha256Hex(bytes), () => artifacts.putBytes(bytes)),
      },
      made: ({ round, adapter }) =>
        [...fresh].map((sha256) => ({ sha256, round, kind: sha256 === adapter ? "adapter" : "evidence" })),
      closed: (header) => {
        fresh.clear();
        this.#tidy(run, header);
      },
    };
  }

  /** Puts a file for a run to come; it stays for an hour, also where it was there already. */
  async put(sha256: string, chunks: AsyncIterable<Uint8Array>, bytes: number): Promise<void> {
    this.#hold(sha256, Number.POSITIVE_INFINITY);
    try {
      await this.#going.get(sha256);
      await this.#options.artifacts.put(sha256, chunks, bytes);
    } finally {
      this.#hold(sha256, this.#options.clock.nowMs() + HELD_MS);
    }
  }

  /** Keeps what a run needs until `unclaim`, before it is looked for; what just goes is gone after this. */
  async claim(run: string, names: readonly string[]): Promise<void> {
    this.#claimed.set(run, names);
    await Promise.all(names.map((name) => this.#going.get(name)));
  }

  unclaim(run: string): void {
    this.#claimed.delete(run);
  }

  #hold(sha256: string, untilMs: number): void {
    const nowMs = this.#options.clock.nowMs();
    this.#held.delete(sha256);
    this.#held.set(sha256, untilMs);
    for (const [name, endMs] of this.#held)
      if (endMs <= nowMs || this.#held.size > MAX_HELD) this.#held.delete(name);
  }

  #isKept(sha256: string): boolean {
    if ((this.#held.get(sha256) ?? 0) > this.#options.clock.nowMs()) return true;
    if ([...this.#claimed.values()].some((names) => names.includes(sha256))) return true;
    return [...this.#fresh.values()].some((names) => names.has(sha256));
  }

  /** Ends with what is being removed. */
  async close(): Promise<void> {
    await Promise.all(this.#tidying.values());
  }

  #tidy(run: string, header: RunHeader): void {
    if (Object.keys(this.#options.kept).length === 0 || this.#tidying.has(run)) return;
    const tidying = this.#removeOld(run, header)
      .catch((error: unknown) => logTrouble(this.#options.log, error, { doing: "removing what is old" }))
      .finally(() => this.#tidying.delete(run));
    this.#tidying.set(run, tidying);
  }

  async #removeOld(run: string, { round, earlier, history }: RunHeader): Promise<void> {
    const { store } = this.#options;
    const { entries, ...kept } = this.#options.kept;
    for (const sha256 of await store.filesBeyond(run, { round, kept })) {
      if (!(await this.#remove(run, sha256))) continue;
      failpoint("keep.removed");
      await store.forgetFile(run, sha256);
    }
    // A version for each of the newest rounds at most: no adapter that stays is without its manifest.
    await store.forgetRows(run, {
      ...(kept.evidence !== undefined && { records: earlier + history.length - kept.evidence }),
      ...(kept.adapter !== undefined && { releases: kept.adapter }),
    });
    if (entries === undefined) return;
    for (let time = 0; time < MAX_REMOVALS && (await store.forgetEntries(entries)) > 0; time++);
  }

  /** False for one that is needed after all, or just put again. */
  async #remove(run: string, sha256: string): Promise<boolean> {
    const { isInUse } = this.#options;
    // In one turn: who puts it from now on waits, and who put it before is seen here or by its row.
    if (isInUse(sha256) || this.#isKept(sha256)) return false;
    failpoint("keep.removing");
    const going = this.#removeFile(run, sha256);
    this.#going.set(
      sha256,
      going.catch(() => {}),
    );
    try {
      await going;
      return true;
    } finally {
      this.#going.delete(sha256);
    }
  }

  /**
   * By the store's word, while nobody else can begin to lead. What remains is a removal that takes longer
   * than that, as in a slow bucket, and a process that stands still after its last look at the clock.
   */
  async #removeFile(run: string, sha256: string): Promise<void> {
    const { artifacts, store, clock } = this.#options;
    const untilMs = clock.nowMs() + REMOVING_MS;
    let removing = Promise.resolve();
    const remove = async () => {
      const leftMs = untilMs - clock.nowMs();
      // It stood still: the server may have ended the transaction, and another may lead.
      if (leftMs <= 0)
        throw new Fault("unavailable", "removing a file", {
          expected: `the store's word within ${REMOVING_MS} ms`,
          got: "it later",
        });
      removing = artifacts.remove(sha256);
      await within(removing, { clock, mostMs: leftMs });
    };
    try {
      await store.removeFile(run, { sha256, remove });
    } finally {
      await removing;
    }
  }
}
