import { existsSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { NO_POSTGRES, SKIP_POSTGRES } from "../../../../claims/support/postgres/binaries.ts";
import { sharedCluster } from "../../../../claims/support/postgres/shared.ts";
import { restore } from "../../src/backup/restore.ts";
import { examineFederation } from "../../src/operate/doctor/doctor.ts";
import { madeBackup } from "./made.ts";

if (SKIP_POSTGRES) console.log(`restores that nobody answers: skipped, ${NO_POSTGRES}`);

let home: string;
let from: string;
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "tutti-unanswered-"));
  from = await madeBackup(home);
});
afterAll(() => rm(home, { recursive: true, force: true }));

/** What stands before a database, and loses the first COMMIT after `due`, or only its answer. */
async function losing(url: string, what: "the commit" | "its answer", due: () => boolean) {
  const target = new URL(url);
  const { hostname: host, port } = target;
  let isOver = false;
  const server = createServer((client) => {
    const database = connect(Number(port), host);
    const end = () => {
      client.destroy();
      database.destroy();
    };
    let isLost = false;
    client.on("data", (bytes) => {
      isLost = !isOver && due() && /commit\0/i.test(bytes.toString("latin1"));
      isOver ||= isLost;
      if (isLost && what === "the commit") end();
      else database.write(bytes);
    });
    database.on("data", (bytes) => {
      if (isLost) end();
      else client.write(bytes);
    });
    for (const socket of [client, database]) socket.on("error", end).on("close", end);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  target.port = `${(server.address() as AddressInfo).port}`;
  return { url: target.href, close: () => server.close() };
}

test.skipIf(SKIP_POSTGRES).each([
  ["the commit", /nobody has led yet/],
  ["its answer", /^epoch \d+/],
] as const)(
  "a restore to PostgreSQL that lost %s keeps its folder, which tells the doctor what became of it",
  async (what, leader) => {
    const folder = join(home, what);
    const proxy = await losing(await (await sharedCluster()).database(), what, () => existsSync(folder));
    const store = { engine: "postgres", url: proxy.url, poolSize: 2 } as const;
    const lost = restore({ from, folder, store, nowMs: 1 });
    await expect(lost).rejects.toMatchObject({ code: "unavailable", what: folder });
    await expect(lost).rejects.toThrow("nobody knows, and the folder stays");
    expect(await readdir(folder)).toContain("tutti.json");
    const findings = await examineFederation(folder, () => Promise.reject(new Error("nobody")));
    expect(findings.find((one) => one.what === "leader")?.says).toMatch(leader);
    expect(findings.find((one) => one.what === "store")?.state).toBe("ok");
    // Where nothing was filled the same restore may be given again, as it says; else it is refused.
    await rm(folder, { recursive: true });
    const again = restore({ from, folder, store, nowMs: 1 });
    if (what === "the commit") await again;
    else await expect(again).rejects.toMatchObject({ code: "conflict" });
    proxy.close();
  },
);
