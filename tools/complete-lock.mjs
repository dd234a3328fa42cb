// Completes package-lock.json after `npm install`: npm leaves out optional packages of other platforms when the
// registry in use does not carry them, and then `npm ci` refuses its own lock file (decision 0004). What can be read
// from the package's name is added: version, system, processor. Run with `npm run lock`.
import { readFileSync, writeFileSync } from "node:fs";

const FILE = new URL("../package-lock.json", import.meta.url);
const SYSTEMS = ["android", "darwin", "linux", "win32", "freebsd"];

const lock = JSON.parse(readFileSync(FILE, "utf8"));
for (const { optionalDependencies = {} } of Object.values({ ...lock.packages })) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const key = `node_modules/${name}`;
    if (!(key in lock.packages)) lock.packages[key] = entryOf(name, version);
  }
}
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);

function entryOf(name, version) {
  const parts = name.split("/").at(-1).split("-");
  const system = SYSTEMS.find((one) => parts.includes(one));
  const processor = ["arm64", "x64"].find((one) => parts.includes(one)) ?? "arm";
  if (!system) throw new Error(`${name}: expected a system in its name`);
  const libc = parts.includes("musl") ? { libc: ["musl"] } : {};
  return { version, cpu: [processor], dev: true, ...libc, optional: true, os: [system] };
}
