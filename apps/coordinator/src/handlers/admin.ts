import { hex } from "@tutti/foundation/bytes";
import { checkBytes, demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import {
  type Admin,
  type HistoryReply,
  HistoryReplySchema,
  ListRunsReplySchema,
  type PutPart,
  ReleasesReplySchema,
  RoundRecordSchema,
  type RunStatus,
  StartRunReplySchema,
} from "@tutti/wire/admin";
import { AckSchema } from "@tutti/wire/device";
import { create, decode } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { type Call, type Handlers, MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Driver } from "../drive/driver.ts";
import type { Store } from "../store/store.ts";
import { chunksFrom } from "./chunks.ts";
import { statusOf } from "./status.ts";

/** Statuses are sent no more often than this, however fast things change. */
const WATCH_MS = 100;
/** Of what grows with every round, a reply has so many at most, and as many as fit in half a message. */
const PAGE = 500;
const PAGE_BYTES = MAX_MESSAGE_BYTES / 2;

/** What a run's owner may ask. */
export function adminHandlers(coordinator: Coordinator): Handlers<typeof Admin> {
  const { artifacts, store } = coordinator.parts;
  const status = (driver: Driver) => statusOf(coordinator, driver);
  return {
    async put(parts, call) {
      await putArtifact(coordinator, parts, mustBeOwner(call));
      return create(AckSchema);
    },
    async startRun({ plan }, call) {
      const owner = mustBeOwner(call);
      demand(plan, () => new Fault("bad-message", "start run", { expected: "a signed plan", got: "none" }));
      return create(StartRunReplySchema, { run: await coordinator.startRun(plan, owner) });
    },
    async status({ run }, call) {
      mustBeOwner(call);
      return status(coordinator.driver(run));
    },
    async *watch({ run }, call) {
      mustBeOwner(call);
      yield* watch(coordinator, coordinator.driver(run), call.signal);
    },
    async stopRun({ run }, call) {
      const owner = mustBeOwner(call);
      const driver = coordinator.driver(run);
      await driver.stop(owner);
      return status(driver);
    },
    async resumeRun({ run }, call) {
      await coordinator.resumeRun(run, mustBeOwner(call));
      return status(coordinator.driver(run));
    },
    async listRuns(_request, call) {
      mustBeOwner(call);
      // Without what is long: a federation's runs together would outgrow one message.
      const brief = { history: [], devices: [] };
      const runs = coordinator.drivers().map((driver) => ({
        ...status(driver),
        ...(coordinator.isWithheld(driver.options.run) && { state: "unavailable", reason: "being read" }),
        ...brief,
      }));
      return create(ListRunsReplySchema, { runs });
    },
    async releases({ run, from }, call) {
      mustBeOwner(call);
      const { planEnvelope: plan } = coordinator.driver(run).options;
      const stored = await store.releases(run, { from, most: PAGE });
      const fitting = whatFits(stored.map(({ envelope }) => envelope));
      const manifests = fitting.map((envelope) => decode(SignedEnvelopeSchema, envelope, MAX_MESSAGE_BYTES));
      const more = fitting.length < stored.length || stored.length === PAGE;
      // Versions have no gap but at their beginning, where old ones are gone.
      const next = (stored[0]?.version ?? from) + fitting.length;
      return create(ReleasesReplySchema, { manifests, plan, more, next });
    },
    async history({ run, from }, call) {
      mustBeOwner(call);
      return await historyOf(store, coordinator.driver(run), from);
    },
    async revoke({ device, revocations }, call) {
      await coordinator.revoke(device, revocations, mustBeOwner(call));
      return create(AckSchema);
    },
    async *fetch(request, call) {
      mustBeOwner(call);
      yield* chunksFrom(artifacts, request);
    },
  };
}

async function historyOf(
  store: Pick<Store, "history">,
  { options, header: { earlier, history } }: Driver,
  from: number,
): Promise<HistoryReply> {
  const stored = from < earlier ? await store.history(options.run, { from, most: PAGE }) : [];
  const [first] = stored;
  // Of rows that are all gone the header's records are the next.
  if (first === undefined) {
    const at = Math.max(from, earlier);
    return create(HistoryReplySchema, { records: history.slice(at - earlier), from: at });
  }
  const fitting = whatFits(stored.map(({ record }) => record));
  const records = fitting.map((bytes) => decode(RoundRecordSchema, bytes, MAX_MESSAGE_BYTES));
  return create(HistoryReplySchema, { records, from: first.at });
}

/** The first of them that a message has room for, and at least one. */
function whatFits(all: readonly Uint8Array[]): Uint8Array[] {
  let bytes = 0;
  const over = all.findIndex((one) => {
    bytes += one.length;
    return bytes > PAGE_BYTES;
  });
  return all.slice(0, over < 0 ? all.length : Math.max(1, over));
}

async function putArtifact(
  coordinator: Coordinator,
  parts: AsyncIterable<PutPart>,
  owner: string,
): Promise<void> {
  const iterator = parts[Symbol.asyncIterator]();
  const first = await iterator.next();
  const part = first.done ? undefined : first.value.part;
  if (part?.case !== "header")
    throw new Fault("bad-message", "put", { expected: "a header first", got: part?.case ?? "nothing" });
  const { sha256, totalBytes } = part.value;
  const rest = { [Symbol.asyncIterator]: () => iterator };
  const name = hex(checkBytes("artifact hash", sha256, 32));
  await coordinator.retention.put(name, chunkBytes(rest), totalBytes);
  const note = { actor: owner, what: "artifact.put", subject: name, detail: { bytes: totalBytes } };
  await coordinator.parts.store.note(note);
}

async function* chunkBytes(parts: AsyncIterable<PutPart>): AsyncGenerator<Uint8Array> {
  for await (const { part } of parts) {
    if (part.case !== "chunk")
      throw new Fault("bad-message", "put", { expected: "chunks", got: part.case ?? "nothing" });
    yield part.value;
  }
}

/** The status now and after each change, until the run is over or the caller goes. */
async function* watch(
  coordinator: Coordinator,
  driver: Driver,
  signal: AbortSignal,
): AsyncGenerator<RunStatus> {
  let dirty = true;
  let wake: () => void = () => {};
  const poke = () => {
    dirty = true;
    wake();
  };
  const unwatch = coordinator.watch(poke);
  signal.addEventListener("abort", poke, { once: true });
  try {
    while (!signal.aborted) {
      if (!dirty)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      dirty = false;
      const now = statusOf(coordinator, driver);
      yield now;
      if (now.state !== "running") return;
      await coordinator.parts.clock.sleep(WATCH_MS, signal).catch(() => {});
    }
  } finally {
    unwatch();
    signal.removeEventListener("abort", poke);
  }
}

/** The owner's name. */
function mustBeOwner({ caller }: Call): string {
  if (caller?.role === "owner") return caller.name;
  throw new Fault("refused", "request", {
    expected: "a run owner's signature",
    got: caller?.role ?? "no signature",
  });
}
