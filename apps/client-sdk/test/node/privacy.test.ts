import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { hex } from "@tutti/foundation/bytes";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { parseLedger } from "@tutti/privacy/ledger";
import { envelopeFromJson } from "@tutti/release/dsse";
import { openRelease, type Release } from "@tutti/release/manifest";
import { signPlan } from "@tutti/release/plan";
import { decodeTranscript } from "@tutti/round/transcript";
import { verifyRound } from "@tutti/round/verify";
import { decode } from "@tutti/wire/message";
import { type SignedEnvelope, SignedEnvelopeSchema } from "@tutti/wire/release";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { DeviceEvent } from "../../src/events.ts";
import { Device, join } from "../../src/node/index.ts";
import { type PrivacyPolicy, parsePolicy, policyText } from "../../src/policy.ts";
import { clouds, prepared } from "../mlp.ts";

const random = platformRandom();
const NAMES = ["ann", "bob", "cleo", "dan", "eve"];
let home: string;
let server: Server;
beforeEach(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-privacy-"));
  const folder = path(home, "federation");
  await initFederation({ folder, name: "test", host: "127.0.0.1", port: 1, random, nowMs: Date.now() });
  server = await serveFederation({ folder, port: 0 });
});
afterEach(async () => {
  await server.close();
  await rm(home, { recursive: true, force: true });
});

/** A device over gRPC, with a budget of its own in its policy. */
async function deviceOf(name: string, budget: PrivacyPolicy | null, events: DeviceEvent[]) {
  const folder = path(home, name);
  const about = { folder: path(home, "federation"), name, days: 1, random, nowMs: Date.now() };
  const token = await createToken(about);
  await join({ joinFile: joinFileText({ ...token, address: server.address }), folder, random });
  const policy = parsePolicy(await readFile(path(folder, "policy.json"), "utf8"));
  await writeFile(path(folder, "policy.json"), policyText({ ...policy, privacy: budget }));
  return await Device.open({
    folder,
    data: clouds(40, seededRandom(name)),
    events: (event) => events.push(event),
  });
}

/** A whole run of five devices; its state, its releases, and what devices refused. */
async function runWith(privacy: object, budget: PrivacyPolicy | null = null, change: object = {}) {
  const settings = prepared({
    rounds: 2,
    cohort: { min: 4, max: 5 },
    update: { clipNorm: 1, maxWeight: 40 },
    privacy: { noiseMultiplier: 2, ...privacy },
    ...change,
  });
  const events: DeviceEvent[] = [];
  const devices = await Promise.all(NAMES.map((name) => deviceOf(name, budget, events)));
  const { coordinator } = server;
  const { artifacts, store } = coordinator.parts;
  for (const bytes of [settings.base, settings.initial]) await artifacts.putBytes(bytes);
  const taking = devices.map((device) => device.participate());
  const owner = await openOwner(path(home, "federation"));
  const run = await coordinator.startRun(signPlan(settings.plan, owner));
  await Promise.all(taking);
  await Promise.all(devices.map((device) => device.close()));
  const trust = { authority: owner.authority, nowS: Math.floor(Date.now() / 1000) };
  const envelopes = (await store.releases(run)).map(({ envelope }) =>
    decode(SignedEnvelopeSchema, envelope, 1 << 20),
  );
  const releases = envelopes.map((envelope) => openRelease(envelope, trust).release);
  const refused = events.flatMap((event) => (event.kind === "refused" ? [event.because.message] : []));
  const { header } = coordinator.driver(run);
  return { settings, run, trust, envelopes, releases, refused, header, artifacts };
}

type Ran = Awaited<ReturnType<typeof runWith>>;

/** The round behind a release, checked by a stranger with all files that there are. */
async function checked({ trust, envelopes, releases, artifacts, header }: Ran, version: number) {
  const { transcript } = releases[version] as Release;
  const file = await artifacts.read(transcript!);
  const { cohorts, stateBefore } = decodeTranscript(envelopeFromJson(new TextDecoder().decode(file)).payload);
  expect(header.state).toBe("finished");
  return verifyRound({
    ...trust,
    transcript: file,
    manifest: envelopes[version] as SignedEnvelope,
    sums: await Promise.all(cohorts.map(({ sumHash }) => artifacts.read(hex(sumHash)))),
    parent: await artifacts.read(releases[version - 1]!.adapter.sha256),
    state: stateBefore.length > 0 ? await artifacts.read(hex(stateBefore)) : undefined,
  });
}

const spentBy = async (name: string) => parseLedger(await readFile(path(home, name, "privacy.log"), "utf8"));

describe("a run with noise, over gRPC", () => {
  test("its manifest claims what the accountant says, its round verifies, devices wrote it down", {
    timeout: 120_000,
  }, async () => {
    const ran = await runWith({ mode: "distributed", adaptiveClip: {} });
    expect(ran.refused).toEqual([]);
    const [first, one, two] = ran.releases.map(({ privacy }) => privacy);
    expect(first).toBeNull();
    // Three honest ones of five members reach the plan's noise; with all five it is (5 − 1)/3 of that.
    const rho = (3 / 4) * (1 / (2 * 2 ** 2));
    expect(one!.rho / rho).toBeCloseTo(1, 2);
    expect(two!.rho).toBeCloseTo(2 * one!.rho, 10);
    expect(two!.epsilon).toBeCloseTo(epsilonOfRho(two!.rho, 1e-5), 10);
    expect(ran.header.history.map((record) => record.rho > 0)).toEqual([true, true, true]);
    expect(ran.header.rho).toBeCloseTo(3 * one!.rho, 10);
    expect(one!.clipNorm).toBe(1);
    expect(two!.clipNorm > 0 && two!.clipNorm <= 1).toBe(true);
    for (const name of NAMES) {
      const entries = await spentBy(name);
      expect(entries.map(({ round }) => round)).toEqual([0, 1, 2]);
      expect(entries.reduce((sum, entry) => sum + entry.rho, 0)).toBeGreaterThanOrEqual(ran.header.rho);
    }
    const { checks, unchecked } = await checked(ran, 2);
    expect(checks.map(({ what }) => what)).toEqual(expect.arrayContaining(["sum", "manifest", "step"]));
    expect(unchecked).toEqual(["adapter"]);
  });

  test("a run beyond a site's budget is not begun, and ends by name", { timeout: 120_000 }, async () => {
    // Two rounds of noise multiplier 2 come to ε 3.2 at δ 1e-5; with the one that evaluates it is 4.1.
    const budget = { epsilon: 4, delta: 1e-5, modes: ["distributed"] };
    const ran = await runWith({ mode: "distributed" }, budget, { attempts: 1 });
    expect(ran.header.state).toBe("failed");
    expect(ran.header.reason).toContain("declined: refused: privacy budget");
    expect(ran.refused).toHaveLength(NAMES.length);
    expect(ran.refused.every((reason) => reason.includes("expected at most ε 4 at δ 0.00001"))).toBe(true);
    expect(ran.releases).toHaveLength(1);
    expect(existsSync(path(home, "ann", "privacy.log"))).toBe(false);
  });

  test.each(["central", "local"])(
    "%s noise: released, verified, priced",
    { timeout: 120_000 },
    async (mode) => {
      const ran = await runWith({ mode }, null, { rounds: 1 });
      expect(ran.refused).toEqual([]);
      const claim = ran.releases[1]!.privacy!;
      expect(claim.mode).toBe(mode);
      expect(claim.rho).toBeCloseTo(1 / 8, 3);
      expect((await checked(ran, 1)).unchecked).toEqual(["adapter"]);
    },
  );
});
