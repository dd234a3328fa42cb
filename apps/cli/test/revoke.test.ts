import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { join as joinFederation } from "@tutti/client-sdk/node/join";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { platformRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { Command } from "commander";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { freePort } from "../../../claims/support/free-port.ts";
import { revokeCommand } from "../src/commands/revoke.ts";

const random = platformRandom();
let home: string;
let folder: string;
let server: Server;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-revoke-"));
  folder = join(home, "federation");
  const about = { folder, name: "test", host: "127.0.0.1", port: await freePort(), random };
  await initFederation({ ...about, nowMs: Date.now() });
  server = await serveFederation({ folder });
});
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

/** Its exit code, 0 or 1, and what it says. */
async function revoke(site: string): Promise<readonly [number, string]> {
  let said = "";
  const spies = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, "write").mockImplementation((chunk) => {
      if (stream === process.stdout) said += String(chunk);
      return true;
    }),
  );
  const root = new Command("tutti").option("--json").exitOverride();
  const before = process.exitCode;
  try {
    const command = revokeCommand().copyInheritedSettings(root);
    const line = ["revoke", site, "--federation", folder];
    return await root
      .addCommand(command)
      .parseAsync(line, { from: "user" })
      .then(
        () => [0, said] as const,
        () => [1, said] as const,
      );
  } finally {
    for (const spy of spies) spy.mockRestore();
    process.exitCode = before;
  }
}

test("a site that was revoked is known as such, and one that nobody enrolled is an error", async () => {
  const token = await createToken({ folder, name: "ward", days: 1, random, nowMs: Date.now() });
  await joinFederation({ joinFile: joinFileText(token), folder: join(home, "ward"), random });
  const { store } = server.coordinator.parts;
  expect(await store.device("ward")).toMatchObject({ revoked: false });
  expect(await revoke("nobody")).toEqual([1, ""]);
  expect(await revoke("ward")).toEqual([0, "ward is revoked\n"]);
  expect(await store.device("ward")).toMatchObject({ revoked: true });
});

test("a site that was revoked before is said to be, and no new list is made for it", async () => {
  const token = await createToken({ folder, name: "desk", days: 1, random, nowMs: Date.now() });
  await joinFederation({ joinFile: joinFileText(token), folder: join(home, "desk"), random });
  const { store } = server.coordinator.parts;
  await revoke("desk");
  const written = async () => [await store.trust.statement("revocations"), await store.auditHead()];
  const before = await written();
  expect(await revoke("desk")).toEqual([0, "desk was revoked already\n"]);
  expect(await written()).toEqual(before);
});
