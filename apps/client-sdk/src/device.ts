import { within } from "@tutti/foundation/clock";
import { asFault, Fault } from "@tutti/foundation/fault";
import { denialOf } from "@tutti/identity/denial";
import { create } from "@tutti/wire/message";
import { ReportRequestSchema } from "@tutti/wire/round";
import { Conversation, type RunEnd } from "./conversation.ts";
import { emitter, type Listener } from "./events.ts";
import { Going } from "./going.ts";
import { listen } from "./listen.ts";
import { goBack, loadModel } from "./load-model.ts";
import { type Model, modelHolder } from "./model.ts";
import type { Site } from "./site.ts";
import { Standing } from "./standing.ts";
import { stateOf } from "./state.ts";
import { openWorkshop } from "./workshop.ts";

export type ParticipateOptions = {
  readonly signal?: AbortSignal;
  /** Stop after the first run that ends (the default), or serve one run after another until the signal. */
  readonly once?: boolean;
};

/** The runs that ended while the device took part. */
export type Participation = { readonly runs: readonly RunEnd[] };

/** A device: takes part in runs, and answers with the model they improve. */
export type Device = {
  readonly name: string;
  /**
   * Takes part until a run is over. Losing the coordinator is waited out; a bad word is told as a `refused`
   * event.
   * @throws Fault("refused") when the coordinator does not know or no longer admits this device.
   */
  participate(options?: ParticipateOptions): Promise<Participation>;
  /** The model on this device, the same object before and after a release. */
  model(): Model;
  on(listener: Listener): () => void;
  /**
   * Says what the device is now (the `state` it was opened with) to runs that ask for it. It is told whenever
   * the device connects; one that is not connected needs none of this.
   */
  stateChanged(): Promise<void>;
  /**
   * Goes back to the model before the newest one, offline. The one gone back from is not served again; a
   * newer one is.
   */
  rollback(): Promise<void>;
  /**
   * Ends what is going on and waits for it, so that nothing of this device writes any more; an app's function
   * that does not come back is waited for at most CLOSE_MS, and nothing follows when it does.
   */
  close(): Promise<void>;
};

/** Longer than a step of training or the write of a release takes. */
const CLOSE_MS = 10_000;

export type DeviceParts = Omit<Site, "emit"> & { readonly events?: Listener };

/** A device from its platform's parts; `node/device.ts` gathers them from a folder. */
export async function openDevice(parts: DeviceParts): Promise<Device> {
  const { emit, on } = emitter();
  if (parts.events) on(parts.events);
  const site: Site = { ...parts, emit: unlessRevoked(emit) };
  const holder = modelHolder();
  const life = new AbortController();
  const going = new Going();
  const workshop = openWorkshop(site, life.signal);
  await workshop.sweep().catch((error: unknown) => site.emit({ kind: "refused", because: asFault(error) }));
  await loadModel(site, holder);
  /** The end of each run that was told last. */
  const ended = new Map<string, string>();

  async function participate({ signal, once = true }: ParticipateOptions = {}): Promise<Participation> {
    const stop = new AbortController();
    const until = AbortSignal.any([life.signal, stop.signal, ...(signal ? [signal] : [])]);
    const runs = new Map<string, RunEnd>();
    const onRunOver = (end: RunEnd) => {
      // A coordinator without a run greets with the end of the last one; told once, it is no news.
      const how = `${end.outcome}: ${end.reason}`;
      if (ended.get(end.run) === how) return;
      ended.set(end.run, how);
      runs.set(end.run, end);
      if (once) stop.abort(new Fault("cancelled", "the run is over"));
    };
    const standing = new Standing(site, until);
    const conversation = new Conversation({
      site,
      workshop,
      holder,
      signal: until,
      going,
      onRunOver,
      onInvited: (run) => ended.delete(run),
      standing,
    });
    try {
      await hearOut(site, { conversation, standing, signal: until });
    } finally {
      stop.abort(new Fault("cancelled", "the device stopped listening"));
      conversation.close();
      await conversation.settled();
      await standing.settled();
    }
    return { runs: [...runs.values()] };
  }

  return {
    name: site.identity.name,
    participate: (options) => going.during(participate(options)),
    model: () => holder.model,
    on,
    stateChanged: async () => {
      const state = await stateOf(site);
      // Whoever is away says it on coming back.
      await site.link.report(create(ReportRequestSchema, { state }), life.signal).catch(() => {});
    },
    rollback: async () => {
      life.signal.throwIfAborted();
      await going.during(goBack(site, holder));
    },
    close: async () => {
      life.abort(new Fault("cancelled", "the device was closed"));
      await going.ended(site.clock, CLOSE_MS);
      // What an app's engine still loads is waited for no longer than its functions.
      const closed = Promise.all([workshop.close(), holder.close()]);
      await within(closed, { clock: site.clock, mostMs: CLOSE_MS }).finally(() => site.link.close());
    },
  };
}

/**
 * Greeting takes anybody, also a device that was told that it is revoked: it is not connected again, and
 * hears so from what it asks next.
 */
function unlessRevoked(tell: Listener): Listener {
  let isRevoked = false;
  return (event) => {
    isRevoked ||= event.kind === "refused" && denialOf(event.because) === "revoked";
    if (!(isRevoked && event.kind === "state" && event.state === "connected")) tell(event);
  };
}

type Hearing = {
  readonly conversation: Conversation;
  readonly standing: Standing;
  readonly signal: AbortSignal;
};

/** Hears what the coordinator has to say, until the signal. */
async function hearOut(site: Site, { conversation, standing, signal }: Hearing): Promise<void> {
  const { link, clock, jitter, emit } = site;
  void standing.watch();
  await listen({
    link,
    patience: { clock, jitter },
    emit,
    signal,
    hear: (word) => conversation.hear(word),
    greeted: (notice) => {
      standing.greeted(notice);
      conversation.connected();
    },
    mends: (because) => standing.mends(because),
    state: () => stateOf(site),
    asks: site.stream === false,
  });
}
