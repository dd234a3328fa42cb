import { connectService } from "@tutti/client-sdk/node/grpc";
import { tlsIdentity } from "@tutti/client-sdk/node/sign";
import { openOwner } from "@tutti/coordinator/folder/federation";
import { PATHS, readHex } from "@tutti/coordinator/folder/layout";
import { fromHex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256 } from "@tutti/foundation/hash";
import { printable } from "@tutti/foundation/text";
import { signPlan } from "@tutti/release/plan";
import { Admin, type PutPart, PutPartSchema, type RoundRecord, type RunStatus } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { CHUNK_BYTES, type Stub } from "@tutti/wire/rpc";
import { Register } from "@tutti/wire/standing";
import type { PreparedRun } from "./prepare.ts";

export type Owner = Awaited<ReturnType<typeof openOwner>>;
export type AdminLink = Stub<typeof Admin>;

/** How long a command waits while another coordinator takes over; that takes half of it. */
const TAKEOVER_MS = 10_000;

/**
 * The owner's keys of a federation folder and a link to its coordinator; `body` runs, then the link closes.
 */
export async function asOwner<T>(
  folder: string,
  body: (admin: AdminLink, owner: Owner) => Promise<T>,
): Promise<T> {
  const { owner, about, waits } = await ownerOf(folder);
  const admin = connectService(Admin, about);
  try {
    return await body(admin, owner);
  } finally {
    waits.over();
    admin.close();
  }
}

/** The same for what an owner asks about devices. */
export async function asRegistrar<T>(
  folder: string,
  body: (register: Stub<typeof Register>, owner: Owner) => Promise<T>,
): Promise<T> {
  const { owner, about, waits } = await ownerOf(folder);
  const register = connectService(Register, about);
  try {
    return await body(register, owner);
  } finally {
    waits.over();
    register.close();
  }
}

async function ownerOf(folder: string) {
  const owner = await openOwner(folder);
  const { address, addresses, tls, key, name, authority } = owner;
  const shows = tlsIdentity(await readHex(folder, PATHS.ownerKey));
  // A coordinator that has another TLS certificate by now says so, signed, each time it is asked.
  const pins = { authority, kept: null, keep: async () => {} };
  const waits = saidWhileWaiting([address, ...addresses]);
  const onHello = waits.over;
  const about = { address, addresses, tls, key, name, shows, pins, onHello, patienceMs: TAKEOVER_MS };
  return { owner, about, waits };
}

/** So long without an answer looks like a command that hangs. */
const SILENCE_MS = 2_000;

/** A line on stderr where none of several coordinators has answered yet, until `over` is called. */
export function saidWhileWaiting(
  addresses: readonly string[],
  say: (line: string) => void = (line) => void process.stderr.write(`${printable(line)}\n`),
): { readonly over: () => void } {
  const line = `none of ${addresses.join(", ")} has answered as the leader yet; waiting`;
  const timer = setTimeout(() => addresses.length > 1 && say(line), SILENCE_MS);
  return { over: () => clearTimeout(timer) };
}

/** Uploads what a run begins from, signs its plan and starts it; the run's id. */
export async function startPrepared(
  admin: AdminLink,
  owner: Owner,
  { plan, base, initial }: PreparedRun,
): Promise<string> {
  await putArtifact(admin, base);
  await putArtifact(admin, initial);
  const signed = signPlan(plan, owner);
  return (await admin.startRun({ $typeName: "tutti.v1.StartRunRequest", plan: signed })).run;
}

/** Uploads a file under its hash, in chunks. */
export async function putArtifact(admin: AdminLink, bytes: Uint8Array): Promise<void> {
  await admin.put(putParts(bytes));
}

/** Downloads a file by its hash and checks it. */
export async function fetchArtifact(admin: AdminLink, sha256Hex: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const { data } of admin.fetch({
    $typeName: "tutti.v1.FetchRequest",
    sha256: fromHex(sha256Hex),
    offset: 0,
  })) {
    chunks.push(data);
  }
  const bytes = new Uint8Array(Buffer.concat(chunks));
  if (!Buffer.from(sha256(bytes)).equals(fromHex(sha256Hex))) {
    throw new Fault("refused", "artifact", { expected: `SHA-256 ${sha256Hex}`, got: "another" });
  }
  return bytes;
}

/** A run's plan and every signed manifest that its coordinator keeps, oldest first. */
export async function releasesOf(
  admin: AdminLink,
  run: string,
): Promise<{ manifests: SignedEnvelope[]; plan: SignedEnvelope | undefined }> {
  const manifests: SignedEnvelope[] = [];
  for (let from = 0; ; ) {
    const reply = await admin.releases({ $typeName: "tutti.v1.ReleasesRequest", run, from });
    manifests.push(...reply.manifests);
    // A coordinator that says no version removes none.
    const next = reply.next || manifests.length;
    if (!reply.more || next <= from) return { manifests, plan: reply.plan };
    from = next;
  }
}

/**
 * The status with all of its history that is kept: a status itself has the newest records. `earlier` then
 * says how many are gone.
 */
export async function withHistory(admin: AdminLink, status: RunStatus): Promise<RunStatus> {
  const { run, earlier } = status;
  const before: RoundRecord[] = [];
  let gone = 0;
  for (let from = 0; from < earlier; ) {
    const reply = await admin.history({ $typeName: "tutti.v1.HistoryRequest", run, from });
    // A coordinator that says no place removes nothing.
    const at = Math.max(from, reply.from);
    // Only the oldest go; those that went while we read took what we have with them.
    if (at > from) before.length = 0;
    if (at > from) gone = Math.min(at, earlier);
    if (reply.records.length === 0) break;
    before.push(...reply.records.slice(0, Math.max(0, earlier - at)));
    from = at + reply.records.length;
  }
  return { ...status, history: [...before, ...status.history], earlier: gone };
}

/** Records of a status that come after the first `shown` of its run. */
export function recordsAfter(shown: number, { history, earlier }: RunStatus): RoundRecord[] {
  return history.slice(Math.max(0, shown - earlier));
}

async function* putParts(bytes: Uint8Array): AsyncGenerator<PutPart> {
  yield create(PutPartSchema, {
    part: { case: "header", value: { sha256: sha256(bytes), totalBytes: bytes.length } },
  });
  for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
    yield create(PutPartSchema, { part: { case: "chunk", value: bytes.subarray(at, at + CHUNK_BYTES) } });
  }
}
