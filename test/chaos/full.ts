// Writes entries until storage takes no more: node --import tsx full.ts <database file>.
import { writeSync } from "node:fs";
import { openStore } from "@tutti/coordinator/store/store";

const store = await openStore({ file: process.argv[2] ?? "" });
await store.addRun({
  run: "r",
  name: "n",
  plan: new Uint8Array(10),
  header: new Uint8Array(10),
  state: "running",
});
try {
  for (let seq = 0; seq < 2_000; seq++) {
    await store.commit("r", { append: [{ seq, entry: new Uint8Array(300).fill(seq) }] });
    writeSync(1, `acknowledged ${seq}\n`);
  }
} catch (fault) {
  writeSync(1, `${fault}\n`);
}
