import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { connect as dial } from "node:tls";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { PATHS, readHex } from "@tutti/coordinator/folder/layout";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { platformRandom } from "@tutti/foundation/random";
import { bind } from "@tutti/identity/certificate";
import { type JoinFile, joinFileText } from "@tutti/identity/join";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { Admin, ListRunsRequestSchema } from "@tutti/wire/admin";
import { EnrollRequestSchema, HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { CheckInRequestSchema } from "@tutti/wire/round";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readConfig, readIdentity, readShown } from "../../src/node/folder.ts";
import { connect, connectService, join } from "../../src/node/index.ts";
import { tlsIdentity } from "../../src/node/sign.ts";

const random = platformRandom();
const checkIn = create(CheckInRequestSchema);
let home: string;
let federation: string;
let server: Server;
beforeAll(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-mutual-"));
  federation = path(home, "federation");
  const where = { folder: federation, name: "test", host: "127.0.0.1", port: 1 };
  await initFederation({ ...where, random, nowMs: Date.now() });
  const config = JSON.parse(await readFile(path(federation, PATHS.config), "utf8"));
  const required = { ...config, identity: { clientCertificates: "required" } };
  await writeFile(path(federation, PATHS.config), JSON.stringify(required));
  server = await serveFederation({ folder: federation, port: 0 });
  for (const name of ["ann", "bob"])
    await join({ joinFile: joinFileText(await token(name)), folder: path(home, name), random });
});
afterAll(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

async function token(name: string): Promise<JoinFile> {
  const made = await createToken({ folder: federation, name, days: 1, random, nowMs: Date.now() });
  return { ...made, address: server.address };
}

async function partsOf(name: string) {
  const folder = path(home, name);
  const config = await readConfig(folder);
  const { key } = await readIdentity(folder, config);
  return { address: config.address, tls: config.tls, name, key, shows: await readShown(folder) };
}

describe("where certificates are required of devices", () => {
  test("an enrolled device shows its own key and is spoken to", async () => {
    const link = connect(await partsOf("ann"));
    await expect(link.checkIn(checkIn)).resolves.toBeDefined();
    link.close();
  });

  test("a run's owner shows the owner's", async () => {
    const { address: _, ...owner } = await openOwner(federation);
    const shows = tlsIdentity(await readHex(federation, PATHS.ownerKey));
    const admin = connectService(Admin, { ...owner, address: server.address, shows });
    expect((await admin.listRuns(create(ListRunsRequestSchema))).runs).toEqual([]);
    admin.close();
  });

  test("a connection without one is cut before anything is said on it", async () => {
    const { shows: _, ...bare } = await partsOf("ann");
    const link = connect(bare);
    await expect(link.hello(create(HelloRequestSchema))).rejects.toMatchObject({ code: "unavailable" });
    link.close();
    const [host, port] = server.address.split(":");
    await new Promise<void>((resolve) => {
      const options = { host: host!, port: Number(port), ALPNProtocols: ["h2"], rejectUnauthorized: false };
      dial(options)
        .on("error", () => {})
        .on("close", () => resolve());
    });
  });

  test("one device's signature on another's connection is refused", async () => {
    const [ann, bob] = [await partsOf("ann"), await partsOf("bob")];
    const link = connect({ ...bob, shows: ann.shows });
    await expect(link.checkIn(checkIn)).rejects.toMatchObject({
      code: "refused",
      what: "request by bob",
      detail: { got: "another's" },
    });
    link.close();
  });

  test("a key is enrolled on its own connection only", async () => {
    const [own, other] = [newSeed(random), newSeed(random)];
    const file = await token("eve");
    const certificate = bind(file.token.grant, signingKey(file.token.secret!), signingKey(own).publicKey);
    const { address, tls } = await partsOf("ann");
    const via = (seed: Uint8Array) =>
      connect({ address, tls, name: "eve", key: signingKey(own), shows: tlsIdentity(seed) });
    const [wrong, right] = [via(other), via(own)];
    const request = create(EnrollRequestSchema, { certificate });
    await expect(wrong.enroll(request)).rejects.toMatchObject({ code: "refused", what: "request by eve" });
    await expect(right.enroll(request)).resolves.toMatchObject({ device: "eve" });
    await expect(right.checkIn(checkIn)).resolves.toBeDefined();
    wrong.close();
    right.close();
  });
});
