// Is told to stop while it writes the second of two files: node --import tsx write-child.ts <folder>.
import { join } from "node:path";
import { writeAll } from "../src/write.ts";

const folder = process.argv[2] ?? "";
const stopped = (async function* () {
  process.kill(process.pid, "SIGTERM");
  yield "new";
})();
await writeAll([
  [join(folder, "a"), "new"],
  [join(folder, "b"), stopped as never],
]);
process.exit(3);
