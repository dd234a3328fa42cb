import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { type Device, openDevice } from "@tutti/client-sdk/device";
import { nativeAgree } from "@tutti/client-sdk/node/agree";
import { readConfig, readIdentity, readPolicy } from "@tutti/client-sdk/node/folder";
import { connect } from "@tutti/client-sdk/node/grpc";
import { join } from "@tutti/client-sdk/node/join";
import { nativeVerify } from "@tutti/client-sdk/node/verify";
import { memorySpending } from "@tutti/client-sdk/private";
import { memoryStore } from "@tutti/client-sdk/store";
import type { Driver } from "@tutti/coordinator/drive/driver";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { createToken } from "@tutti/coordinator/folder/token";
import { type Server, serveFederation } from "@tutti/coordinator/serve";
import { fromHex } from "@tutti/foundation/bytes";
import { systemClock } from "@tutti/foundation/clock";
import type { FaultCode } from "@tutti/foundation/fault";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { joinFileText } from "@tutti/identity/join";
import { memoryLedger } from "@tutti/secagg/device/member";
import {
  Admin,
  HistoryRequestSchema,
  ReleasesRequestSchema,
  RevokeRequestSchema,
  RunRequestSchema,
  StartRunRequestSchema,
} from "@tutti/wire/admin";
import { create, encode } from "@tutti/wire/message";
import { Federation, FetchRequestSchema } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { Register, Standing } from "@tutti/wire/standing";
import fc from "fast-check";
import { asOwner, startPrepared } from "tutti/owner";
import { afterAll, beforeAll, expect, test } from "vitest";
import { mutated } from "../../claims/support/chaos/mutate.ts";
import { Raw, type Signer, signedHeader } from "../../claims/support/chaos/raw.ts";
import { type Recorded, recording } from "../../claims/support/chaos/recorded.ts";
import { noopRun } from "../../claims/support/coordinator/house.ts";
import { noopData, noopEngine, noopRuntime } from "../../claims/support/coordinator/noop.ts";
import { freePort } from "../../claims/support/free-port.ts";
import { NIGHTLY } from "../../libs/graph/test/runs.ts";

const CASES = Number(process.env.CASES ?? (NIGHTLY ? 1_000_000 : 10_000));
/** A million take hours on a machine that has other things to do. */
const NIGHT_MS = 4 * 3_600_000;
const SEED = Number(process.env.SEED ?? 20_261_129);
/** Calls under way at once; more only wait for each other. */
const WIDTH = 30;
const NAMES = ["ann", "bob", "cat"];
const MALLORIES = Array.from({ length: 8 }, (_, at) => `mallory${at}`);
const LIMITS = { callsPerSecond: 100_000 };

const random = platformRandom();
const recorded: Recorded[] = [];
const devices: Device[] = [];
let home: string;
let server: Server;
let tls: string;
/** In turn: one alone would soon have more requests open than a name may (grpc/sessions.ts). */
const signers: Signer[] = [];
let owner: Signer;

beforeAll(async () => {
  home = await mkdtemp(path(tmpdir(), "tutti-fuzz-"));
  const folder = path(home, "federation");
  const port = await freePort();
  await initFederation({ folder, name: "test", host: "127.0.0.1", port, random, nowMs: Date.now() });
  const file = path(folder, "tutti.json");
  const config = JSON.parse(await readFile(file, "utf8")) as object;
  await writeFile(file, JSON.stringify({ ...config, limits: LIMITS, log: { level: "error" } }));
  server = await serveFederation({ folder });
  for (const name of NAMES) await take(await enrol(name), name);
  for (const name of MALLORIES) {
    const folder = await enrol(name);
    const site = await readConfig(folder);
    const { key } = await readIdentity(folder, site);
    tls = site.tls;
    signers.push(await signerOf(name, key));
  }
  const { name, key } = await openOwner(path(home, "federation"));
  owner = await signerOf(name, key);
});
afterAll(async () => {
  await Promise.all(devices.map((device) => device.close()));
  await server.close();
  await rm(home, { recursive: true, force: true });
});

async function signerOf(name: string, key: Signer["key"]): Promise<Signer> {
  const { session, nowMs } = await alone((raw) => raw.greet());
  const offsetMs = nowMs - Date.now();
  return { name, key, session, nowMs: () => Date.now() + offsetMs };
}

async function enrol(name: string): Promise<string> {
  const folder = path(home, name);
  const token = await createToken({
    folder: path(home, "federation"),
    name,
    days: 1,
    random,
    nowMs: Date.now(),
  });
  await join({ joinFile: joinFileText({ ...token, address: server.address }), folder, random });
  return folder;
}

/** A real device in this process, whose requests are recorded. */
async function take(folder: string, name: string): Promise<void> {
  const config = await readConfig(folder);
  const identity = await readIdentity(folder, config);
  const clock = systemClock();
  const link = connect({ ...config, key: identity.key, clock });
  const device = await openDevice({
    identity,
    policy: await readPolicy(folder),
    data: noopData,
    folder: "",
    link: recording(link, (request) => recorded.push(request)),
    store: memoryStore(),
    ledger: memoryLedger(),
    spending: memorySpending(),
    engine: async () => noopEngine(name),
    runtime: noopRuntime,
    clock,
    jitter: seededRandom(name),
    secret: random,
    verify: nativeVerify(),
    agree: nativeAgree,
  });
  devices.push(device);
  void device.participate({ once: false }).catch(() => {});
}

/** An honest round of all three, through to its release. */
async function round(name: string): Promise<void> {
  await asOwner(path(home, "federation"), async (admin, owner) => {
    const run = await startPrepared(admin, owner, noopRun({ name }));
    for (;;) {
      const status = await admin.status({ $typeName: "tutti.v1.RunRequest", run });
      if (status.state === "finished") return expect(status.history[0]?.survivors).toBe(NAMES.length);
      expect(`${status.state} ${status.reason}`).toBe("running ");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });
}

async function alone<T>(body: (raw: Raw) => Promise<T>): Promise<T> {
  const raw = new Raw(Number(server.address.split(":").at(-1)), tls ?? "");
  try {
    return await body(raw);
  } finally {
    raw.close();
  }
}

/** What a stranger, a device or an owner's tool may hear. Never a bug, and never that storage failed. */
const ANSWERS: ReadonlySet<FaultCode> = new Set([
  "bad-input",
  "bad-message",
  "unsupported",
  "refused",
  "not-found",
  "conflict",
]);

/** What anybody may ask at any time, which changes nothing that a round is made of. */
const HARMLESS: ReadonlySet<string> = new Set(
  [
    ...["hello", "enroll", "report", "fetch", "checkIn", "listen"].map((name) => methodOf(Federation, name)),
    ...Standing.methods,
    // What an owner does to a run that is over changes nothing; that, the test looks at.
    ...Admin.methods,
    ...Register.methods,
  ].map(pathOf),
);

function methodOf({ methods }: typeof Federation, name: string) {
  return methods.find(({ localName }) => localName === name)!;
}

type Case = {
  readonly request: Recorded;
  readonly by: "stranger" | "device" | "owner";
  readonly salt: number;
  readonly as: number;
};

/** Messages of a request, one of them mutated; at times under another method's name. */
function spoilt({ request, salt, as }: Case): Recorded {
  const dice = seededRandom(`${salt}`);
  const at = dice.below(request.messages.length);
  const messages = request.messages.slice(0, 8).map((bytes, i) => (i === at ? mutated(bytes, dice) : bytes));
  const paths = [...Federation.methods, ...Admin.methods, ...Standing.methods, ...Register.methods].map(
    pathOf,
  );
  return { path: as < paths.length ? paths[as]! : request.path, messages };
}

/** What an owner asks of a run, whole; the device that it revokes is nobody's. */
function asked({
  run,
  plan,
  planEnvelope,
}: Pick<Driver["options"], "run" | "plan" | "planEnvelope">): Recorded[] {
  const { status, watch, stopRun, resumeRun, startRun, history, releases, fetch, revoke } = Admin.method;
  const about = encode(RunRequestSchema, create(RunRequestSchema, { run }));
  const said = (method: Parameters<typeof pathOf>[0], message: Uint8Array) => {
    return { path: pathOf(method), messages: [message] };
  };
  const sha256 = fromHex(plan.base.sha256);
  return [
    ...[status, watch, stopRun, resumeRun].map((method) => said(method, about)),
    said(startRun, encode(StartRunRequestSchema, create(StartRunRequestSchema, { plan: planEnvelope }))),
    said(history, encode(HistoryRequestSchema, create(HistoryRequestSchema, { run }))),
    said(releases, encode(ReleasesRequestSchema, create(ReleasesRequestSchema, { run }))),
    said(fetch, encode(FetchRequestSchema, create(FetchRequestSchema, { sha256 }))),
    said(revoke, encode(RevokeRequestSchema, create(RevokeRequestSchema, { device: "nobody" }))),
  ];
}

test(
  `docs/reliability.md, Connections: ${CASES} requests that are nearly right`,
  async () => {
    await round("before");
    const distinct = Federation.methods
      .map(pathOf)
      .filter((path) => recorded.some((one) => one.path === path));
    // Enroll is said before a device is one; Decline, CheckIn and UploadStatus when something is amiss.
    expect(distinct.length).toBeGreaterThanOrEqual(9);
    const state = () =>
      JSON.stringify(server.coordinator.drivers().map(({ header, round }) => [header, round]));
    const before = state();
    const corpus = [
      ...recorded,
      ...asked(server.coordinator.drivers()[0]!.options),
      ...[Federation, Admin, Standing, Register].flatMap(({ methods }) =>
        methods.map((one) => ({ path: pathOf(one), messages: [new Uint8Array(8)] })),
      ),
    ];
    const one = fc.record({
      request: fc.constantFrom(...corpus),
      by: fc.oneof(
        { weight: 4, arbitrary: fc.constant("stranger" as const) },
        { weight: 4, arbitrary: fc.constant("device" as const) },
        { weight: 1, arbitrary: fc.constant("owner" as const) },
      ),
      salt: fc.nat(),
      as: fc.nat(150),
    });
    const met = new Map<string, number>();
    // A stranger has few calls at once: each connection is one over which a device signed.
    const open = async () => {
      const raw = new Raw(Number(server.address.split(":").at(-1)), tls);
      const path = pathOf(Federation.method.report);
      await raw.call(path, [new Uint8Array()], signedHeader(path, new Uint8Array(), signers[0]!));
      return raw;
    };
    let raw = await open();
    for (let done = 0; done < CASES; done += WIDTH) {
      if (done % (1_000 * WIDTH) === 0 && done > 0) process.stderr.write(`${done} of ${CASES}\n`);
      const cases = fc.sample(one, { seed: SEED + done, numRuns: Math.min(WIDTH, CASES - done) });
      if (raw.over) raw = await open();
      const signer = signers[(done / WIDTH) % signers.length]!;
      const answers = await Promise.all(
        cases.map(async (about) => {
          const { path, messages } = spoilt(about);
          // Whoever listens is counted among those present: a stranger tries that, and no device of ours.
          const by = /\/(Listen|CheckIn)$/.test(path) ? "stranger" : about.by;
          const body = messages[0] ?? new Uint8Array();
          const auth = by === "stranger" ? {} : signedHeader(path, body, by === "owner" ? owner : signer);
          return { about, path, ended: await raw.call(path, messages, auth) };
        }),
      );
      for (const { about, path, ended } of answers) {
        const code = ended.fault?.code ?? "ok";
        met.set(code, (met.get(code) ?? 0) + 1);
        const good = ended.fault === null ? HARMLESS.has(path) : ANSWERS.has(ended.fault.code);
        if (good) continue;
        const which = JSON.stringify({ seed: SEED + done, salt: about.salt, path });
        expect.fail(`case ${which}: ${ended.fault?.message ?? "taken"}`);
      }
    }
    raw.close();
    expect(state()).toBe(before);
    expect([...met.keys()]).toContain("bad-message");
    process.stderr.write(`${JSON.stringify(Object.fromEntries(met))}\n`);
    await round("after");
  },
  NIGHT_MS,
);
