// A coordinator that takes `devices` vectors and says what memory that took: node --import tsx uploads.ts
// '<UploadsArgs as JSON>'. Handler, driver, journal and store are the real ones; the session's members are
// names, and all of them send the same words, so that what grows is the coordinator's.

import { join } from "node:path";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { initFederation } from "@tutti/coordinator/folder/init";
import { federationHandlers } from "@tutti/coordinator/handlers/federation";
import { serveFederation } from "@tutti/coordinator/serve";
import { sha256 } from "@tutti/foundation/hash";
import { platformRandom } from "@tutti/foundation/random";
import { packBits } from "@tutti/kernels/pack";
import { signPlan } from "@tutti/release/plan";
import type { Round } from "@tutti/round/round";
import { termsOf } from "@tutti/round/spec";
import { completeGraph } from "@tutti/secagg/graph";
import { openSession, type ServerSession } from "@tutti/secagg/server/session";
import { create } from "@tutti/wire/message";
import { type Terms, type UploadPart, UploadPartSchema } from "@tutti/wire/secagg";
import { asChild } from "../round/child.ts";
import { idleRun } from "./hall.ts";

export type UploadsArgs = { readonly folder: string; readonly devices: number };
/** Bytes: of one vector, all vectors would be, at their peak above what there was before. */
export type UploadsSaid = {
  readonly vectorBytes: number;
  readonly residentBytes: number;
  readonly bufferBytes: number;
};

/** Devices that upload at once. */
const AT_ONCE = 8;
const CHUNK_BYTES = 64 << 10;

const [{ folder, devices }, say] = asChild<UploadsArgs, UploadsSaid, never>(() => {});
const names = Array.from({ length: devices }, (_, at) => `device-${at}`);

const about = { folder: join(folder, "federation"), name: "claims", host: "127.0.0.1", port: 0 };
await initFederation({ ...about, random: platformRandom(), nowMs: Date.now() });
const { coordinator, close } = await serveFederation({ folder: about.folder });
const { plan, base, initial } = idleRun({ devices, rounds: 1 });
for (const bytes of [base, initial]) await coordinator.parts.artifacts.putBytes(bytes);
const run = await coordinator.startRun(signPlan(plan, await openOwner(about.folder)));
const driver = coordinator.driver(run);
// The run's own first entry is written before the round is put in its place.
await new Promise((resolve) => setTimeout(resolve, 500));
const terms = termsOf(driver.round!.spec);
driver.round = masking(driver.round!, terms);

const handlers = federationHandlers(coordinator, {
  openSession: () => ({ session: new Uint8Array(16), nowMs: 0 }),
  authenticate: async () => null,
});
const upload = packed(terms);
await send(names.splice(0, AT_ONCE));
globalThis.gc?.();
const before = process.memoryUsage();
const peak = { rss: before.rss, arrayBuffers: before.arrayBuffers };
while (names.length > 0) {
  await send(names.splice(0, AT_ONCE));
  const { rss, arrayBuffers } = process.memoryUsage();
  peak.rss = Math.max(peak.rss, rss);
  peak.arrayBuffers = Math.max(peak.arrayBuffers, arrayBuffers);
}
await close();
say({
  vectorBytes: 4 * terms.length,
  residentBytes: peak.rss - before.rss,
  bufferBytes: peak.arrayBuffers - before.arrayBuffers,
});

/** The round as it is once all have shared. */
function masking(round: Round, terms: Terms): Round {
  const members = new Set(names);
  const sid = new Uint8Array(32).fill(1);
  const graph = completeGraph(names, 2);
  const group = { terms, sid, root: sid, parties: new Map(), graph, quorum: 1, least: 1 };
  const session: ServerSession = {
    ...openSession(terms, { ...round.trust, members }),
    phase: "masking",
    group,
    sid,
    senders: [...names].sort(),
  };
  const sum = { kind: "secure", members, session } as const;
  const deadlineMs = Number.POSITIVE_INFINITY;
  const here = { connected: members, invited: members, ready: members };
  const cohorts = [{ sum, deadlineMs, dropped: "" }];
  return { ...round, ...here, phase: "summing", deadlineMs, cohorts };
}

function packed({ length, bits }: Terms): UploadPart[] {
  const words = Uint32Array.from({ length }, (_, at) => at % 2 ** bits);
  const bytes = packBits(words, bits);
  const session = new Uint8Array(32).fill(1);
  const header = { session, packedBytes: bytes.length, sha256: sha256(bytes) };
  const parts = [create(UploadPartSchema, { part: { case: "header", value: header } })];
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    const value = bytes.slice(at, at + CHUNK_BYTES);
    parts.push(create(UploadPartSchema, { part: { case: "chunk", value } }));
  }
  return parts;
}

async function* streamed(parts: readonly UploadPart[]): AsyncGenerator<UploadPart> {
  // As off a wire, one message in each turn of the event loop.
  for (const part of parts) {
    await new Promise((resolve) => setImmediate(resolve));
    yield part;
  }
}

async function send(some: readonly string[]): Promise<void> {
  const signal = new AbortController().signal;
  const calls = some.map((name) => ({ caller: { name, role: "device", labels: {} }, signal }));
  await Promise.all(calls.map((call) => handlers.upload(streamed(upload), call)));
}
