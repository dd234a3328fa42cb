import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { envelopeJson } from "@tutti/release/envelope-json";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { authority, NOW_S, type PlayedRound, playRound } from "../../../libs/round/test/verify/played.ts";
import type { AdminLink } from "../src/owner.ts";
import { saveRound } from "../src/save-round.ts";

const home = mkdtempSync(join(tmpdir(), "tutti-verify-"));
const at = (name: string) => join(home, name);
// Certificates of the tests are of another day than today.
writeFileSync(at("clock.mjs"), `Date.now = () => ${NOW_S * 1000};`);
vi.useFakeTimers({ toFake: ["Date"], now: NOW_S * 1000 });
afterAll(() => {
  vi.useRealTimers();
  rmSync(home, { recursive: true, force: true });
});

const TUTTI = fileURLToPath(new URL("../bin/tutti.mjs", import.meta.url));
const KEY = hex(authority.publicKey);
let round: PlayedRound;
beforeAll(async () => {
  round = await playRound({ plan: { server: { name: "momentum" } }, round: 1 });
  await saveRound(coordinatorOf(round), {
    transcript: round.release.transcript!,
    folder: home,
    authority: authority.publicKey,
  });
  writeFileSync(at("manifest.json"), envelopeJson(round.given.manifest!));
  writeFileSync(at("adapter.safetensors"), round.given.adapter!);
});

/** A coordinator that has the round's artifacts but for some, and nothing else. */
function coordinatorOf({ given }: PlayedRound, gone: readonly Uint8Array[] = []): AdminLink {
  const { transcript, sums, parent, state, previous } = given;
  const all = [transcript, ...sums!, parent!, state!, previous!].filter((bytes) => !gone.includes(bytes));
  const held = new Map(all.map((bytes) => [sha256Hex(bytes), bytes]));
  const fetch = async function* ({ sha256 }: { sha256: Uint8Array }) {
    const data = held.get(hex(sha256));
    if (!data) throw new Fault("not-found", `artifact ${hex(sha256)}`);
    yield { data };
  };
  return { fetch } as unknown as AdminLink;
}

function verifyRound(...args: string[]) {
  const line = [TUTTI, "verify-round", at("round-1.transcript"), "--authority", KEY, ...args];
  const ran = spawnSync(process.execPath, ["--import", pathToFileURL(at("clock.mjs")).href, ...line], {
    encoding: "utf8",
  });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}

const SUM = ["--sum", at("round-1.sum")];
const STEP = ["--parent", at("round-1.parent.safetensors"), "--state", at("round-1.state")];
const RELEASE = ["--manifest", at("manifest.json"), "--adapter", at("adapter.safetensors")];

test("all that a saved release has of its round is what the check takes, and is found good", () => {
  expect(readdirSync(home).filter((name) => name.startsWith("round"))).toEqual([
    "round-0.transcript",
    "round-1.parent.safetensors",
    "round-1.state",
    "round-1.sum",
    "round-1.transcript",
  ]);
  const { code, out } = verifyRound(...RELEASE, ...SUM, ...STEP, "--previous", at("round-0.transcript"));
  expect(code).toBe(0);
  expect(out).toMatch(/^good {2}step: parent, sum and rule momentum give the adapter/m);
  expect(out).toMatch(/^good: round 1 of run [0-9a-f]{12}, 13 checks$/m);
});

test("what a coordinator keeps no more is left out by name; the transcript must be there", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tutti-verify-"));
  const { transcript: file, state, previous } = round.given;
  const about = { transcript: round.release.transcript!, folder, authority: authority.publicKey };
  const saved = await saveRound(coordinatorOf(round, [state!, previous!]), about);
  expect(saved.gone).toEqual(["round-1.state", "round-0.transcript"]);
  expect(Object.keys(saved).sort()).toEqual(["gone", "parent", "sums", "transcript"]);
  const written = ["round-1.parent.safetensors", "round-1.sum", "round-1.transcript"];
  expect(readdirSync(folder).sort()).toEqual(written);
  await expect(saveRound(coordinatorOf(round, [file]), about)).rejects.toMatchObject({ code: "not-found" });
  rmSync(folder, { recursive: true });
});

test("what was not given is said, and the JSON has the cohort and what the sum says", () => {
  const { code, out, err } = verifyRound(...SUM, "--json");
  expect(code).toBe(0);
  expect(err).toContain("      manifest: not looked at");
  expect(JSON.parse(out)).toMatchObject({
    good: true,
    round: 1,
    cohorts: [{ members: 4, survivors: ["d00", "d01", "d02"], counted: true }],
    unchecked: ["manifest", "adapter", "previous", "step"],
    sum: { loss: expect.closeTo(0.5, 3) },
  });
});

test("an option that nothing would look at is refused, with the one that is missing beside it", () => {
  const [adapter, parent] = [RELEASE.slice(2), STEP.slice(0, 2)];
  for (const [given, what, missing] of [
    [adapter, "--adapter", "--manifest"],
    [[...SUM, ...STEP.slice(2)], "--state", "--parent"],
    [parent, "--parent", "--sum"],
    // The run's rule remembers, which only the round itself says.
    [[...SUM, ...parent], "--parent", "--state"],
  ] as const) {
    const { code, out, err } = verifyRound("--json", ...given);
    expect(code, err).toBe(2);
    expect(out).toBe("");
    const { error } = JSON.parse(err.trim().split("\n").at(-1)!);
    expect(error).toMatchObject({ code: "bad-input", what, expected: expect.stringContaining(missing) });
  }
});

test("a wrong sum: the first thing wrong, what was expected and what came, and the code of a refusal", () => {
  const wrong = new Uint8Array(readFileSync(at("round-1.sum")));
  wrong[0]! ^= 1;
  writeFileSync(at("wrong.sum"), wrong);
  const { code, err } = verifyRound("--json", "--sum", at("wrong.sum"));
  expect(code).toBe(4);
  const named = (bytes: Uint8Array) => `SHA-256 ${sha256Hex(bytes)}`;
  const contrast = { expected: named(round.given.sums![0]!), got: named(wrong) };
  const error = { code: "refused", what: "cohort 1, sum", ...contrast };
  expect(JSON.parse(err.trim().split("\n").at(-1)!)).toEqual({ error });
  expect(verifyRound("--manifest", at("gone.json")).code).toBe(3);
});
