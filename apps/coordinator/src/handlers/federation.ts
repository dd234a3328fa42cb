import { fromHex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { printable } from "@tutti/foundation/text";
import type { Facts } from "@tutti/round/eligible";
import { AckSchema, type DeviceState, EnrollReplySchema, HelloReplySchema } from "@tutti/wire/device";
import type { JournalEntry } from "@tutti/wire/journal";
import { create } from "@tutti/wire/message";
import { CheckInReplySchema, type Federation } from "@tutti/wire/round";
import type { Call, Handlers } from "@tutti/wire/rpc";
import { UploadStatusReplySchema } from "@tutti/wire/secagg";
import { mustUnderstand, VERSION } from "@tutti/wire/version";
import type { Coordinator } from "../drive/coordinator.ts";
import type { Driver } from "../drive/driver.ts";
import { reportPause, retryOf, returnOf } from "../drive/pauses.ts";
import { failpoint } from "../failpoint.ts";
import { type Authenticator, mustBeSame } from "../grpc/authenticate.ts";
import { LIMITS, type Limits } from "../grpc/limits.ts";
import type { Store } from "../store/store.ts";
import { chunksFrom } from "./chunks.ts";
import { runNow, runOfSession, runOfUpload } from "./find.ts";
import { Uploads } from "./upload.ts";

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

function arrival(coordinator: Coordinator, authenticator: Authenticator): Some<"hello" | "enroll"> {
  const { registry, notices, presence, parts } = coordinator;
  return {
    async hello({ version }) {
      mustUnderstand("the device", version);
      const { session, nowMs } = authenticator.openSession();
      const told = { version: VERSION, notice: notices.notice, retry: retryOf(returnOf(presence.count)) };
      return create(HelloReplySchema, { session, nowMs, ...told, ...(await headOf(parts.store)) });
    },
    async enroll({ certificate }, { peerKey }) {
      const { name, site } = await registry.enrol(certificate, (name, publicKey) => {
        if (peerKey) mustBeSame(name, { publicKey, peerKey });
      });
      parts.log.say("device.enrolled", { device: name, ...(site && { site }) });
      return create(EnrollReplySchema, { device: name });
    },
  };
}

function news(coordinator: Coordinator): Some<"listen" | "checkIn" | "fetch"> {
  const { dispatch, parts } = coordinator;
  return {
    listen: ({ state }, call) => dispatch.listen(deviceOf(call), factsOf(call, state), call.signal),
    async checkIn({ state }, call) {
      const { word, retry } = dispatch.ask(deviceOf(call), factsOf(call, state));
      return create(CheckInReplySchema, { instruction: word, retry: retryOf(retry) });
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
      const driver = runNow(coordinator, request);
      coordinator.presence.answersWithin(device, request.run, request.answersWithinMs);
      return await say(driver, device, { case: "ready", value: true });
    },
    decline: async (request, call) => {
      const device = deviceOf(call);
      const reason = printable(request.reason, 500);
      const driver = runNow(coordinator, request);
      const isNews = !driver.round?.declined.has(device);
      const ack = await say(driver, device, { case: "declined", value: reason });
      if (isNews) coordinator.declined(device, request, reason);
      return ack;
    },
    async report({ run, activity, progress, state }, call) {
      const device = deviceOf(call);
      if (state) coordinator.dispatch.changedState(device, bounded(state));
      // What only tells of a state says nothing of what the device does.
      if (activity !== "" || !state)
        coordinator.reported(device, {
          run: printable(run, 64),
          activity: printable(activity, 40),
          progress: Math.min(1, Math.max(0, progress || 0)),
        });
      const reporting = coordinator.presence.activities.size;
      return create(AckSchema, { retry: retryOf(reportPause(reporting)) });
    },
  };
}

function secureSum(
  coordinator: Coordinator,
  uploadBytes: number,
): Some<"advertise" | "pick" | "share" | "upload" | "uploadStatus" | "attest" | "reveal"> {
  const uploads = new Uploads(coordinator.parts.clock, uploadBytes);
  coordinator.watch(() => uploads.look());
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
      await uploads.read(
        () => driver.round,
        { device, parts: whole },
        async (upload) => {
          failpoint("upload.received");
          await driver.submit(device, { case: "uploaded", value: true }, upload);
        },
      );
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

/** What is known of a caller: the labels that the authority signed, and what it says itself. */
function factsOf({ caller }: Call, state: DeviceState | undefined): Facts {
  return { labels: caller?.labels ?? {}, state: state && bounded(state) };
}

/** Kept for as long as the device is here, and shown to the owner. */
function bounded(state: DeviceState): DeviceState {
  const engines = state.engines.slice(0, 8).map((engine) => printable(engine, 64));
  return { ...state, sdk: printable(state.sdk, 64), engines };
}

function deviceOf({ caller }: Call): string {
  if (caller?.role === "device") return caller.name;
  throw new Fault("refused", "request", {
    expected: "a device's signature",
    got: caller?.role ?? "no signature",
  });
}
