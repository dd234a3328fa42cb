import { fromHex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { AckSchema, EnrollReplySchema, HelloReplySchema } from "@tutti/wire/device";
import type { JournalEntry } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";
import { CheckInReplySchema, type Federation, InstructionSchema } from "@tutti/wire/round";
import type { Call, Handlers } from "@tutti/wire/rpc";
import { UploadStatusReplySchema } from "@tutti/wire/secagg";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Driver } from "../drive/driver.ts";
import { failpoint } from "../failpoint.ts";
import { type Authenticator, mustBeSame } from "../grpc/authenticate.ts";
import { LIMITS, type Limits } from "../grpc/limits.ts";
import type { Store } from "../store/store.ts";
import { chunksFrom } from "./chunks.ts";
import { runNow, runOfSession, runOfUpload } from "./find.ts";
import { Uploads } from "./upload.ts";

const VERSION = "0.1.0";
/** How long an idle device that cannot hold a stream should wait before it asks again. */
const RETRY_AFTER_MS = 2_000;

/**
 * What devices may ask. Each handler checks who calls, then hands on one message; it decides nothing itself.
 */
export function federationHandlers(
  coordinator: Coordinator,
  authenticator: Authenticator,
  { uploadBytes }: Pick<Limits, "uploadBytes"> = LIMITS,
): Handlers<typeof Federation> {
  return {
    ...arrival(coordinator, authenticator),
    ...news(coordinator),
    ...work(coordinator),
    ...secureSum(coordinator, uploadBytes),
  };
}

type Some<K extends keyof Handlers<typeof Federation>> = Pick<Handlers<typeof Federation>, K>;

function arrival(
  { registry, notices, parts }: Coordinator,
  authenticator: Authenticator,
): Some<"hello" | "enroll"> {
  return {
    async hello() {
      const { session, nowMs } = authenticator.openSession();
      const head = await headOf(parts.store);
      return create(HelloReplySchema, { session, nowMs, version: VERSION, notice: notices.notice, ...head });
    },
    async enroll({ certificate }, { peerKey }) {
      const { name } = await registry.enrol(certificate, (name, publicKey) => {
        if (peerKey) mustBeSame(name, { publicKey, peerKey });
      });
      return create(EnrollReplySchema, { device: name });
    },
  };
}

function news(coordinator: Coordinator): Some<"listen" | "checkIn" | "fetch"> {
  const { presence, parts } = coordinator;
  return {
    async *listen(_request, call) {
      yield* presence.listen(deviceOf(call), call.signal);
    },
    async checkIn(_request, call) {
      const word = coordinator.dispatch.ask(deviceOf(call), RETRY_AFTER_MS);
      const idle = create(InstructionSchema, {
        word: { case: "idle", value: { retryAfterMs: RETRY_AFTER_MS } },
      });
      return create(CheckInReplySchema, { instruction: word ?? idle });
    },
    async *fetch(request, call) {
      deviceOf(call);
      yield* chunksFrom(parts.artifacts, request);
    },
  };
}

function work(coordinator: Coordinator): Some<"ready" | "decline" | "report"> {
  return {
    ready: async (request, call) => {
      const device = deviceOf(call);
      return await say(runNow(coordinator, request), device, { case: "ready", value: true });
    },
    decline: async (request, call) => {
      const device = deviceOf(call);
      const reason = request.reason.slice(0, 500);
      return await say(runNow(coordinator, request), device, { case: "declined", value: reason });
    },
    async report({ run, activity, progress }, call) {
      coordinator.reported(deviceOf(call), {
        run: run.slice(0, 64),
        activity: activity.slice(0, 40),
        progress: Math.min(1, Math.max(0, progress || 0)),
      });
      return create(AckSchema);
    },
  };
}

function secureSum(
  coordinator: Coordinator,
  uploadBytes: number,
): Some<"advertise" | "pick" | "share" | "upload" | "uploadStatus" | "attest" | "reveal"> {
  const uploads = new Uploads(coordinator.parts.clock, uploadBytes);
  const about = async (call: Call, session: Uint8Array, event: JournalEntry["event"]) => {
    const device = deviceOf(call);
    return await say(runOfSession(coordinator, session), device, event);
  };
  return {
    advertise: async ({ advertisement, terms }, call) => {
      const device = deviceOf(call);
      demand(
        advertisement && terms,
        () => new Fault("bad-message", "advertise", { expected: "terms and keys" }),
      );
      return await say(runNow(coordinator, terms), device, { case: "advertised", value: advertisement });
    },
    pick: (request, call) => about(call, request.roster, { case: "picked", value: request }),
    share: (request, call) => about(call, request.session, { case: "shared", value: request }),
    upload: async (parts, call) => {
      const device = deviceOf(call);
      const { driver, whole } = await runOfUpload(coordinator, device, parts);
      await uploads.read(driver.round, { device, parts: whole }, async (upload) => {
        failpoint("upload.received");
        await driver.submit(device, { case: "uploaded", value: true }, upload);
      });
      return create(AckSchema);
    },
    uploadStatus: async (request, call) => {
      const device = deviceOf(call);
      const { round } = runOfSession(coordinator, request.session);
      return create(UploadStatusReplySchema, { heldBytes: uploads.status(round, device, request) });
    },
    attest: (request, call) => about(call, request.session, { case: "attested", value: request }),
    reveal: (request, call) => about(call, request.session, { case: "revealed", value: request }),
  };
}

/** What devices remember of our audit log; a store that does not answer keeps nobody from being greeted. */
async function headOf(store: Store): Promise<{ auditEntries: number; auditHead: Uint8Array } | undefined> {
  const head = await store.auditHead().catch(() => undefined);
  return head && { auditEntries: head.count, auditHead: fromHex(head.hash) };
}

/** Hands a device's message to the run that it is about; acknowledged when it is durable. */
async function say(driver: Driver, device: string, event: JournalEntry["event"]) {
  await driver.submit(device, event);
  return create(AckSchema);
}

function deviceOf({ caller }: Call): string {
  if (caller?.role === "device") return caller.name;
  throw new Fault("refused", "request", {
    expected: "a device's signature",
    got: caller?.role ?? "no signature",
  });
}
