import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configText } from "@tutti/client-sdk/node/folder";
import { openSpending } from "@tutti/client-sdk/node/spending";
import { defaultPolicy, type PrivacyPolicy, policyText } from "@tutti/client-sdk/policy";
import { hex } from "@tutti/foundation/bytes";
import { epsilonOfRho } from "@tutti/privacy/accountant";
import { envelopeJson } from "@tutti/release/envelope-json";
import { type Release, signRelease } from "@tutti/release/manifest";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { AUTHORITY, COORDINATOR, NOW_S, RELEASE, STRANGER } from "../../../libs/release/test/federation.ts";
import { privacy } from "./said.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-spent-"));
});
afterEach(async () => {
  vi.useRealTimers();
  await rm(folder, { recursive: true, force: true });
});

const LOG = "privacy.log";
const [A, B] = ["a".repeat(64), "b".repeat(64)];
const BUDGET: PrivacyPolicy = { epsilon: 4, delta: 1e-6, modes: ["distributed"] };

/** A device's folder whose ledger has these, run by run: round and ρ. */
async function device(
  spentOn: readonly (readonly [run: string, round: number, rho: number])[],
  budget: PrivacyPolicy | null = BUDGET,
): Promise<void> {
  const authority = AUTHORITY.publicKey;
  const config = configText({
    federation: "f",
    name: "ward-7",
    address: "a:1",
    addresses: [],
    tls: "",
    authority,
  });
  await writeFile(join(folder, "device.json"), config);
  await writeFile(join(folder, "policy.json"), policyText({ ...defaultPolicy([]), privacy: budget }));
  const spending = await openSpending(join(folder, LOG));
  for (const [run, round, rho] of spentOn) spending.add({ run, round, attempt: 0, rho, delta: 1e-5 });
}

const spent = (...args: string[]) => privacy("spent", "--folder", folder, ...args);
const told = async (...args: string[]) => JSON.parse(await spent("--json", ...args));

describe("tutti privacy spent --folder", () => {
  test("sums each run's uploads apart, also a second of one round, at the policy's δ", async () => {
    await device([
      [A, 0, 0.1],
      [B, 0, 0.7],
      [A, 1, 0.05],
      [A, 1, 0.05],
    ]);
    const { device: name, budget, runs } = await told();
    expect([name, budget]).toEqual(["ward-7", BUDGET]);
    expect(runs).toMatchObject([
      { run: A, rounds: 2, uploads: 3, delta: 1e-6 },
      { run: B, rounds: 1, uploads: 1, rho: 0.7, delta: 1e-6 },
    ]);
    expect(runs[0].rho).toBeCloseTo(0.2, 12);
    expect(runs[0].epsilon).toBeCloseTo(epsilonOfRho(0.2, 1e-6), 12);
  });

  test("what is left is so many rounds that they fit, and one more would not", async () => {
    await device([
      [A, 0, 0.1],
      [A, 1, 0.03],
    ]);
    const { roundsLeft } = (await told()).runs[0];
    expect(roundsLeft).toBeGreaterThan(0);
    expect(epsilonOfRho(0.13 + roundsLeft * 0.03, 1e-6)).toBeLessThanOrEqual(4);
    expect(epsilonOfRho(0.13 + (roundsLeft + 1) * 0.03, 1e-6)).toBeGreaterThan(4);
    expect(await spent()).toContain(`of ε 4 at δ 0.000001, ${roundsLeft} more at the last one's price`);
  });

  test("a run beyond its budget has none left", async () => {
    await device([[A, 0, 9]]);
    expect((await told()).runs[0].roundsLeft).toBe(0);
  });

  test("without a budget ε is told at the run's own δ, or at the one that is asked for", async () => {
    await device([[A, 0, 0.1]], null);
    expect((await told()).runs).toMatchObject([{ delta: 1e-5, roundsLeft: null }]);
    expect((await told("--delta", "0.001")).runs[0].epsilon).toBeCloseTo(epsilonOfRho(0.1, 1e-3), 12);
    const lines = (await spent()).trimEnd().split("\n");
    expect(lines).toEqual([
      `run aaaaaaaaaaaa: 1 rounds, ρ 0.1000, ε ${epsilonOfRho(0.1, 1e-5).toPrecision(4)} at δ 0.00001`,
      "ward-7 has given noised sums to 1 run; no budget",
    ]);
  });

  test("a device that has given nothing away says so", async () => {
    await device([]);
    expect(await spent()).toBe(
      "ward-7 has given noised sums to 0 runs; the policy allows each ε 4 at δ 0.000001\n",
    );
  });

  test("looking changes nothing: a torn line is counted, and stays as it is for the device", async () => {
    await device([[A, 0, 0.1]]);
    const text = `${await readFile(join(folder, LOG), "utf8")}0.3 ${B} 4`;
    await writeFile(join(folder, LOG), text);
    expect((await told()).runs).toMatchObject([
      { run: A, rho: 0.1 },
      { run: B, rho: 0.3 },
    ]);
    await writeFile(join(folder, LOG), text.slice(0, -60));
    expect(await spent()).toContain("a line was cut short before it said its run");
    expect(await readFile(join(folder, LOG), "utf8")).toBe(text.slice(0, -60));
  });

  test("a folder of no device, a damaged ledger, a policy that is gone: each by name", async () => {
    const refused = (what: RegExp, code: string) =>
      expect(spent()).rejects.toThrow(
        expect.objectContaining({ code, message: expect.stringMatching(what) }),
      );
    await refused(/device\.json: .*Join a federation first/, "not-found");
    await device([[A, 0, 0.1]]);
    await writeFile(join(folder, LOG), "0.5 what is this\n");
    await refused(/^ledger, line 1: .*Put the file back/, "storage");
    await rm(join(folder, LOG));
    await mkdir(join(folder, LOG));
    await refused(/privacy\.log: expected to be readable/, "storage");
    await rm(join(folder, "policy.json"));
    await refused(/^policy\.json/, "refused");
  });

  test("says which of both it takes", async () => {
    await expect(privacy("spent")).rejects.toThrow("expected --folder or --manifest, got neither");
    await expect(spent("--manifest", "m.json")).rejects.toThrow("got both");
    await expect(spent("--delta", "1")).rejects.toThrow("above 0 and below 1");
  });
});

describe("tutti privacy spent --manifest", () => {
  const claim: Release["privacy"] = {
    ...{ unit: "device", mode: "distributed", noiseMultiplier: 3, clipNorm: 0.5, rho: 0.2, delta: 1e-5 },
    ...{ epsilon: epsilonOfRho(0.2, 1e-5), accountant: "rdp, every device in every round" },
  };

  async function claimed(privacyClaim: Release["privacy"], authority = AUTHORITY, ...args: string[]) {
    vi.useFakeTimers({ toFake: ["Date"], now: NOW_S * 1000 });
    const file = join(folder, "manifest.json");
    await writeFile(file, envelopeJson(signRelease({ ...RELEASE, privacy: privacyClaim }, COORDINATOR)));
    return privacy("spent", "--manifest", file, "--authority", hex(authority.publicKey), ...args);
  }

  test("tells the claim of a release that the authority vouches for", async () => {
    const said = JSON.parse(await claimed(claim, AUTHORITY, "--json"));
    expect(said).toMatchObject({ run: RELEASE.run, version: 3, cohorts: [5, 4], privacy: claim });
    expect(await claimed(claim)).toMatch(
      /^noise: distributed, 3 times clip norm 0\.5; sums of 5, 4\n.*\nversion 3 of run a{12} claims of/,
    );
  });

  test("at another δ, by the claim's ρ", async () => {
    const { privacy: at } = JSON.parse(await claimed(claim, AUTHORITY, "--json", "--delta", "0.001"));
    expect([at.rho, at.delta]).toEqual([0.2, 1e-3]);
    expect(at.epsilon).toBeCloseTo(epsilonOfRho(0.2, 1e-3), 12);
  });

  test("no claim is told as none", async () => {
    expect(await claimed(null)).toBe("version 3 of run aaaaaaaaaaaa claims no differential privacy\n");
  });

  test("a stranger's manifest, or no authority to ask, says nothing", async () => {
    await expect(claimed(claim, STRANGER)).rejects.toThrow(expect.objectContaining({ code: "refused" }));
    await expect(privacy("spent", "--manifest", "manifest.json")).rejects.toThrow(
      "expected --authority or --join, got neither",
    );
  });
});
