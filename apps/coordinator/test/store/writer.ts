import { openStore } from "../../src/store/store.ts";

// A coordinator's inner loop in a process of its own: commit, then say which commit was acknowledged. It is
// killed.
const file = process.argv[2]!;
const store = await openStore({ file });
if (!(await store.run("r"))) {
  const empty = new Uint8Array();
  await store.addRun({ run: "r", name: "n", plan: empty, header: empty, state: "running" });
}
for (let seq = (await store.journal("r")).entries.length; ; seq++) {
  const words = new Uint8Array(4096).fill(seq & 255);
  await store.commit("r", {
    append: [{ seq, entry: Uint8Array.of(seq & 255, seq >> 8) }],
    sums: [{ cohort: 0, words }],
  });
  process.stdout.write(`${seq}\n`);
}
