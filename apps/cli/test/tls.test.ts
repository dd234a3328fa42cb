import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as dial } from "node:tls";
import { fileURLToPath } from "node:url";
import { connect } from "@tutti/client-sdk/node";
import { readConfig, readIdentity } from "@tutti/client-sdk/node/folder";
import { join as joinFederation } from "@tutti/client-sdk/node/join";
import { initFederation } from "@tutti/coordinator/folder/init";
import { newTls } from "@tutti/coordinator/folder/tls";
import { writeTls } from "@tutti/coordinator/folder/tls-files";
import { createToken } from "@tutti/coordinator/folder/token";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { create } from "@tutti/wire/message";
import { CheckInRequestSchema, ListenRequestSchema } from "@tutti/wire/round";
import { afterAll, expect, test } from "vitest";
import { freePort } from "../../../claims/support/free-port.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-tls-"));
afterAll(() => rmSync(home, { recursive: true, force: true }));
const program = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));
const folder = join(home, "federation");
const random = platformRandom();

/** The certificate that a new connection is shown, PEM. */
function shownAt(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, ALPNProtocols: ["h2"], rejectUnauthorized: false };
    const socket = dial(options, () => {
      resolve(socket.getPeerX509Certificate()!.toString().trim());
      socket.destroy();
    }).on("error", reject);
  });
}

test("a coordinator's process takes another certificate up on SIGHUP, and cuts nobody", {
  timeout: 180_000,
}, async () => {
  const port = await freePort();
  const about = { folder, name: "test", host: "127.0.0.1", port, random, nowMs: Date.now() };
  await initFederation(about);
  const server = spawn(process.execPath, [program, "serve", folder]);
  const ended = new Promise((resolve) => server.once("exit", (...how) => resolve(how)));
  let log = "";
  const says = (event: string) =>
    new Promise<void>((resolve) => {
      const look = () => log.includes(event) && resolve();
      server.stderr.on("data", look);
      look();
    });
  server.stderr.on("data", (chunk) => {
    log += chunk;
  });
  await says("serve.started");
  const site = join(home, "ann");
  const token = await createToken({ folder, name: "ann", days: 1, random, nowMs: Date.now() });
  await joinFederation({ joinFile: joinFileText(token), folder: site, random });
  const { key } = await readIdentity(site, await readConfig(site));
  const link = connect({ ...(await readConfig(site)), key });
  const stop = new AbortController();
  let open = true;
  const listening = (async () => {
    for await (const _ of link.listen(create(ListenRequestSchema), stop.signal));
    open = false;
  })().catch(() => {
    open = false;
  });
  await link.checkIn(create(CheckInRequestSchema));

  const pem = () => readFileSync(join(folder, "coordinator", "tls.pem"), "utf8").trim();
  const before = pem();
  expect(await shownAt(port)).toBe(before);
  await writeTls(folder, await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() }), "part");
  expect(pem()).not.toBe(before);
  server.kill("SIGHUP");
  await says("tls.changed");
  expect(await shownAt(port)).toBe(pem());
  // The connection of before, whose certificate is shown no more, goes on.
  await link.checkIn(create(CheckInRequestSchema));
  expect(open).toBe(true);
  stop.abort();
  await listening;
  link.close();
  server.kill("SIGTERM");
  expect(await ended).toEqual([0, null]);
});
