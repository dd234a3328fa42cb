// Takes the lock of a folder and keeps it: node --import tsx lock-child.ts <folder>.
import { asFault } from "@tutti/foundation/fault";
import { lockFolder } from "../../src/node/lock.ts";

const said = await lockFolder(process.argv[2] ?? "").then(
  () => "locked",
  (error: unknown) => `${asFault(error).code}: ${asFault(error).message}`,
);
process.send?.(said);
setInterval(() => {}, 1_000);
