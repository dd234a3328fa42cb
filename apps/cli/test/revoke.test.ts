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

async function revoke(site: string): Promise<number> {
  const spies = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, "write").mockImplementation(() => true),
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
        () => 0,
        () => 1,
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
  expect(await revoke("nobody")).toBe(1);
  expect(await revoke("ward")).toBe(0);
  expect(await store.device("ward")).toMatchObject({ revoked: true });
});
