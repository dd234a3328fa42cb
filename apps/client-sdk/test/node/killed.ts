/**
 * Run as a child: activates release after release in a folder, says each when it is in, until it is killed.
 */
import { openFolderStore } from "../../src/node/store.ts";
import { releaseNumber } from "./release.ts";

const [folder = "", from = "0"] = process.argv.slice(2);
const store = await openFolderStore(folder);
for (let version = Number(from) + 1; ; version++) {
  await store.activate(releaseNumber(version));
  process.stdout.write(`${version}\n`);
}
