import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nativeSigningKey } from "@tutti/client-sdk/node/sign";
import { openAuthority } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { PATHS } from "@tutti/coordinator/folder/layout";
import { openStore } from "@tutti/coordinator/store/store";
import { hex } from "@tutti/foundation/bytes";
import { platformRandom } from "@tutti/foundation/random";
import { bind, issue } from "@tutti/identity/certificate";
import { newSeed } from "@tutti/identity/keys";
import { CertificateSchema } from "@tutti/wire/device";
import { encode } from "@tutti/wire/message";
import type { Claim } from "../claim.ts";
import { built } from "../support/built.ts";
import type { IdlersArgs, IdlersSaid } from "../support/coordinator/idlers.ts";
import type { StandingSaid } from "../support/coordinator/standing.ts";
import { unitEnvironment } from "../support/coordinator/unit.ts";
import { freePort } from "../support/free-port.ts";
import { Child } from "../support/round/child.ts";

const AIM = 10_000;
/** TUTTI_IDLE: fewer, where a machine has not the memory or the files; then the claim cannot hold. */
const DEVICES = Number(process.env.TUTTI_IDLE ?? AIM);
const PROCESSES = 2;
const [MOST_BYTES, MOST_BACK_S] = [1e9, 90];
/** Devices of a federation that starts arrive over a while. */
const ARRIVAL_MS = DEVICES * 6;
/** Until V8 collected what arriving left behind. */
const SETTLE_MS = 120_000;
const PATIENCE_MS = 900_000;

export const claim: Claim = {
  name: "coordinator/idle",
  target:
    `${AIM} idle devices on mutual TLS, a Listen stream each: at most ${MOST_BYTES / 1e9} GB resident; ` +
    `after a restart all are back in ${MOST_BACK_S} s, none refused for good`,
  async run(report) {
    const files = Number(execFileSync("sh", ["-c", "ulimit -n"]).toString());
    if (files < DEVICES + 500)
      throw new Error(`this machine allows ${files} open files (ulimit -n): set TUTTI_IDLE to fewer devices`);
    const program = await built(new URL("../support/coordinator/standing.ts", import.meta.url));
    const plain = await standing("off", { program, report });
    const mutual = await standing("required", { program, report });
    const figures = {
      devices: DEVICES,
      residentGB: Math.round(mutual.full.residentBytes / 1e6) / 1e3,
      perConnectionKB: round((mutual.full.residentBytes - mutual.empty.residentBytes) / DEVICES / 1000),
      heapGB: round(mutual.full.heapBytes / 1e9),
      residentBackGB: Math.round(mutual.after.residentBytes / 1e6) / 1e3,
      backS: mutual.backS,
      failed: mutual.failed + plain.failed,
      triesPerDevice: round(mutual.tries / DEVICES),
      turnedAway: mutual.turnedAway + plain.turnedAway,
      plainTls: {
        residentGB: round(plain.full.residentBytes / 1e9),
        perConnectionKB: round((plain.full.residentBytes - plain.empty.residentBytes) / DEVICES / 1000),
        backS: plain.backS,
      },
    };
    const { residentBytes } = mutual.full;
    const backS = Math.max(mutual.backS, plain.backS);
    const whole = DEVICES >= AIM && figures.failed === 0;
    return { figures, holds: whole && residentBytes <= MOST_BYTES && backS <= MOST_BACK_S };
  },
};

type Holds = Extract<StandingSaid, { kind: "holds" }>;

/** A coordinator with everybody connected, killed and started again. */
async function standing(
  clientCertificates: "off" | "required",
  { program, report }: { program: URL; report: (line: string) => void },
) {
  const place = await mkdtemp(join(tmpdir(), "tutti-claim-"));
  const folder = join(place, "federation");
  const children: { kill(): Promise<void> }[] = [];
  try {
    const { names, seed, port } = await found(folder, clientCertificates);
    report(`${clientCertificates}: ${names.length} devices enrolled`);
    const serve = async () => {
      const output = { log: join(place, "coordinator.log"), environment: await unitEnvironment() };
      const child = new Child<StandingSaid>(program, { folder }, output);
      children.push(child);
      await child.until((said) => said.kind === "serving");
      return child;
    };
    let coordinator = await serve();
    const empty = await next(coordinator, () => true);
    const tls = await readFile(join(folder, PATHS.tlsCertificate), "utf8");
    const failures: string[] = [];
    const crowds = Array.from({ length: PROCESSES }, (_, at) => {
      const own = names.filter((_name, i) => i % PROCESSES === at);
      const shows = clientCertificates === "required";
      const about: IdlersArgs = {
        port,
        tls,
        seed,
        names: own,
        showsCertificate: shows,
        windowMs: ARRIVAL_MS,
      };
      const program = new URL("../support/coordinator/idlers.ts", import.meta.url);
      const child = new Child<IdlersSaid>(program, about, join(place, `idlers-${at}.log`));
      child.on((said) => {
        if (said.kind === "failed" && failures.push(said.because) <= 3) report(`gave up: ${said.because}`);
      });
      return child;
    });
    children.push(...crowds);
    const all = ({ devices }: Holds) => devices === names.length;
    await next(coordinator, all, report);
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const full = await next(coordinator, all);
    report(`${clientCertificates}: ${JSON.stringify(full)}`);
    await coordinator.kill();
    const startMs = performance.now();
    coordinator = await serve();
    const after = await next(coordinator, all, report);
    const backS = round((performance.now() - startMs) / 1000);
    const lasts = crowds.map((crowd) => crowd.said.filter(({ kind }) => kind === "listening").at(-1));
    const [tries, turnedAway] = (["tries", "turnedAway"] as const).map((what) =>
      lasts.reduce((sum, last) => sum + (last?.kind === "listening" ? last[what] : Number.NaN), 0),
    ) as [number, number];
    report(
      `${clientCertificates}: all back after ${backS} s; ${tries} tries; ${failures.slice(0, 3).join("; ")}`,
    );
    return { empty, full, after, backS, tries, turnedAway, failed: failures.length };
  } finally {
    await Promise.all(children.map((child) => child.kill()));
    if (!process.env.TUTTI_KEEP) await rm(place, { recursive: true, force: true });
  }
}

/** A federation whose devices are in the store already, as after long service. */
async function found(folder: string, clientCertificates: string) {
  const random = platformRandom();
  const port = await freePort();
  await initFederation({ folder, name: "idle", host: "127.0.0.1", port, random, nowMs: Date.now() });
  const file = join(folder, "tutti.json");
  const config = JSON.parse(await readFile(file, "utf8")) as object;
  const limits = { connections: DEVICES + 2000, connectionsPerAddress: DEVICES + 2000 };
  await writeFile(file, JSON.stringify({ ...config, limits, identity: { clientCertificates } }));
  const authority = await openAuthority(folder);
  const seed = newSeed(random);
  const key = nativeSigningKey(seed);
  const { publicKey } = key;
  const nowS = Math.floor(Date.now() / 1000);
  const names = Array.from({ length: DEVICES }, (_, at) => `device-${at}`);
  const store = await openStore({ file: join(folder, "coordinator", "tutti.sqlite") });
  for (const name of names) {
    const serial = random.bytes(16);
    const dates = { notBeforeS: nowS - 60, notAfterS: nowS + 86_400 };
    const grant = issue(authority, { role: "device", name, publicKey, serial, ...dates });
    // As if each had made its key itself, bound to what the authority granted.
    const certificate = bind(grant, key, publicKey);
    await store.addDevice({ name, serial, certificate: encode(CertificateSchema, certificate) });
  }
  await store.close();
  return { names, seed: hex(seed), port };
}

/** The next thing that a coordinator says it holds that is as it should be. */
async function next(
  coordinator: Child<StandingSaid>,
  fits: (holds: Holds) => boolean,
  report?: (line: string) => void,
): Promise<Holds> {
  const deadlineMs = performance.now() + PATIENCE_MS;
  return await new Promise((resolve, reject) => {
    let before = 0;
    let over = false;
    coordinator.on((said) => {
      if (over || said.kind !== "holds") return;
      over = fits(said) || performance.now() > deadlineMs;
      if (said.devices - before >= DEVICES / 10)
        report?.(`${said.devices} devices, ${said.residentBytes} bytes`);
      if (said.devices - before >= DEVICES / 10) before = said.devices;
      if (!over) return;
      if (fits(said)) resolve(said);
      else reject(new Error(`of ${DEVICES} devices only ${said.devices} are there`));
    });
  });
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
