import { Fault } from "@tutti/foundation/fault";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Change } from "../../src/store/commit.ts";
import type { Engine } from "../../src/store/engine.ts";
import type { Store } from "../../src/store/store.ts";
import { aRun, BENCHES, bytes, lead } from "./bench.ts";

/** The slow twin: what a store is, as plain maps. */
class Twin {
  readonly runs = new Map<string, { header: Uint8Array; state: string }>();
  readonly journals = new Map<string, Map<number, Uint8Array>>();
  readonly sums = new Map<string, Map<number, Uint8Array>>();
  readonly releases = new Map<string, Map<number, string>>();

  add(run: string): string {
    if (this.runs.has(run)) return "conflict";
    this.runs.set(run, { header: aRun.header, state: "running" });
    this.journals.set(run, new Map());
    this.sums.set(run, new Map());
    this.releases.set(run, new Map());
    return "done";
  }

  commit(run: string, change: Change): string {
    const held = this.runs.get(run);
    if (!held) return "not-found";
    const journal = new Map(change.clearJournal ? [] : this.journals.get(run));
    const sums = new Map(change.clearJournal ? [] : this.sums.get(run));
    const releases = new Map(this.releases.get(run));
    for (const { seq, entry } of change.append ?? []) {
      if (seq > 0 && !journal.has(seq - 1)) return "conflict";
      if (journal.has(seq) && `${journal.get(seq)}` !== `${entry}`) return "conflict";
      journal.set(seq, entry);
    }
    for (const { cohort, words } of change.sums ?? []) sums.set(cohort, words);
    const { release } = change;
    if (release) {
      if ((releases.get(release.version) ?? release.digest) !== release.digest) return "conflict";
      releases.set(release.version, release.digest);
    }
    this.journals.set(run, journal);
    this.sums.set(run, sums);
    this.releases.set(run, releases);
    this.runs.set(run, { header: change.header ?? held.header, state: change.state ?? held.state });
    return "done";
  }

  entries(run: string): Uint8Array[] {
    return [...this.journals.get(run)!].sort(([a], [b]) => a - b).map(([, entry]) => entry);
  }
}

const run = fc.constantFrom("a", "b");
const small = fc.uint8Array({ maxLength: 3, max: 2 });
const change: fc.Arbitrary<Change> = fc.record(
  {
    append: fc
      .tuple(fc.nat(4), fc.array(small, { minLength: 1, maxLength: 4 }))
      .map(([first, entries]) => entries.map((entry, at) => ({ seq: first + at, entry }))),
    sums: fc.uniqueArray(fc.record({ cohort: fc.nat(2), words: small }), { selector: (sum) => sum.cohort }),
    header: small,
    state: fc.constantFrom("running", "finished"),
    release: fc.record({
      version: fc.nat(2),
      digest: fc.constantFrom("d", "e"),
      envelope: fc.constant(bytes(8)),
    }),
    clearJournal: fc.boolean(),
  },
  { requiredKeys: [] },
);
const step = fc.oneof(
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("add" as const), run }) },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("commit" as const), run, change, twice: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("lead" as const) }) },
);

describe.each(BENCHES)("any sequence of changes on $name", ({ name, fresh }) => {
  test("leaves what the slow twin has, and meets what it meets; a repeat changes nothing", {
    timeout: 120_000,
  }, async () => {
    const place = await fresh();
    const engine = await place.open();
    const numRuns = name === "postgres" ? 25 : 60;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        await emptied(engine);
        await follow(engine, steps);
      }),
      { numRuns },
    );
    await engine.close();
    await place.remove();
  });
});

type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

async function follow(engine: Engine, steps: readonly Step[]): Promise<void> {
  const twin = new Twin();
  let store: Store = await lead(engine);
  for (const one of steps) {
    if (one.kind === "lead") store = await lead(engine);
    if (one.kind === "add")
      expect(await metBy(store.addRun({ ...aRun, run: one.run }))).toBe(twin.add(one.run));
    if (one.kind !== "commit") continue;
    const wanted = twin.commit(one.run, one.change);
    expect(await metBy(store.commit(one.run, one.change))).toBe(wanted);
    // Its acknowledgement was lost.
    if (one.twice && wanted === "done") {
      expect(twin.commit(one.run, one.change)).toBe("done");
      expect(await metBy(store.commit(one.run, one.change))).toBe("done");
    }
  }
  for (const [run, { header, state }] of twin.runs) {
    expect(await store.run(run)).toMatchObject({ header, state });
    const sums = [...twin.sums.get(run)!].sort(([a], [b]) => a - b);
    expect(await store.journal(run)).toEqual({
      entries: twin.entries(run),
      sums: sums.map(([cohort, words]) => ({ cohort, words })),
    });
    const releases = [...twin.releases.get(run)!].sort(([a], [b]) => a - b);
    expect((await store.releases(run)).map(({ version, digest }) => [version, digest])).toEqual(releases);
  }
}

async function metBy(doing: Promise<unknown>): Promise<string> {
  return await doing.then(
    () => "done",
    (error) => (error instanceof Fault ? error.code : `${error}`),
  );
}

async function emptied({ db }: Engine): Promise<void> {
  for (const table of ["sums", "journal", "releases", "runs"] as const) await db.deleteFrom(table).execute();
}
