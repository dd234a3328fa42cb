import { defaultPolicy } from "@tutti/client-sdk/policy";
import { memorySpending } from "@tutti/client-sdk/private";
import { openSession, type Session, type StageWord } from "@tutti/client-sdk/session";
import type { Site } from "@tutti/client-sdk/site";
import { memoryStore } from "@tutti/client-sdk/store";
import { systemClock } from "@tutti/foundation/clock";
import { platformRandom, seededRandom } from "@tutti/foundation/random";
import { memoryLedger } from "@tutti/secagg/device/member";
import { AckSchema } from "@tutti/wire/device";
import { create, type DescMessage, decode, encode, type MessageShape } from "@tutti/wire/message";
import { InstructionSchema } from "@tutti/wire/round";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import {
  AdvertiseRequestSchema,
  AttestRequestSchema,
  PickRequestSchema,
  RevealRequestSchema,
  ShareRequestSchema,
  type Terms,
  TermsSchema,
  UploadPartSchema,
} from "@tutti/wire/secagg";
import { type Cast, gather, Script } from "./cast.ts";

const ANY = { min: 2, max: 1000 };

/** What a platform brings to the one real device. */
export type Platform = Pick<Site, "verify" | "agree" | "verifyAll" | "agreeAll">;

export type Size = { readonly n: number; readonly length: number; readonly bits: number };

export type Stage = "advertise" | "pick" | "share" | "upload" | "attest" | "reveal";
/** Of each stage: milliseconds, or bytes as encoded. */
export type PerStage = Partial<Record<Stage, number>>;

/** A round of the one real device. */
export type Played = {
  readonly ms: PerStage;
  readonly bytes: PerStage;
  /** Mask streams that it made, holders of its shares, members whose shares it holds, and t. */
  readonly streams: number;
  readonly holders: number;
  readonly sharers: number;
  readonly threshold: number;
};

/** The SDK's own session in a cohort of scripted members; `clockMs` reads what a stage is charged by. */
export class OneDevice {
  readonly #size: Size;
  readonly #cast: Cast;
  readonly #site: Site;
  readonly #words: Uint32Array;
  readonly #clockMs: () => number;
  #round = 0;

  constructor(size: Size, platform: Platform, clockMs: () => number) {
    this.#size = size;
    this.#cast = gather(size.n, Math.floor(systemClock().wallMs() / 1000));
    this.#site = siteOf(this.#cast, platform);
    this.#clockMs = clockMs;
    const draw = seededRandom("claims/secagg");
    this.#words = Uint32Array.from({ length: size.length }, () => draw.below(2 ** size.bits));
  }

  /** The next round: the same members, keys and picks of its own. */
  async play(): Promise<Played> {
    // In its second round a device hears those that were not in the first quorum.
    const order = this.#round === 1 ? "last" : "first";
    const own = this.#terms(this.#round++);
    const script = new Script(this.#cast, own);
    const [ms, bytes]: [PerStage, PerStage] = [{}, {}];
    const spent = async <Sent>(stage: Stage, work: () => Promise<Out<Sent>>): Promise<Sent> => {
      const before = this.#clockMs();
      const { sent, length } = await work();
      ms[stage] = this.#clockMs() - before;
      bytes[stage] = length;
      return sent;
    };
    let session: Session | undefined;
    const hear = <D extends DescMessage>(stage: Stage, schema: D, word: StageWord) => {
      const heard = encode(InstructionSchema, create(InstructionSchema, { word }));
      return spent(stage, async () => {
        const said = decode(InstructionSchema, heard, MAX_MESSAGE_BYTES).word as StageWord;
        return await sentBy(schema, await session!.hear(said));
      });
    };
    const { advertisement } = await spent("advertise", async () => {
      session = openSession({ own, cohort: ANY, words: this.#words, site: this.#site });
      return await sentBy(AdvertiseRequestSchema, session.open(own));
    });
    const roster: StageWord = { case: "roster", value: script.roster(advertisement!) };
    let shares: MessageShape<typeof ShareRequestSchema>;
    if (script.sparse) {
      const picked = await hear("pick", PickRequestSchema, roster);
      shares = await hear("share", ShareRequestSchema, { case: "picks", value: script.picks(picked) });
    } else {
      shares = await hear("share", ShareRequestSchema, roster);
    }
    await hear("upload", UploadPartSchema, { case: "delivery", value: script.delivery(shares) });
    const attested = await hear("attest", AttestRequestSchema, {
      case: "survivors",
      value: script.survivors(),
    });
    const attestations: StageWord = { case: "attestations", value: script.attestations(attested, order) };
    const { shares: revealed } = await hear("reveal", RevealRequestSchema, attestations);
    // Every envelope opened, or its share would be missing.
    if (revealed.length !== script.sharers)
      throw new Error(`${revealed.length} shares of ${script.sharers} revealed`);
    session!.close();
    const { streams, sharers, group } = script;
    return {
      ms,
      bytes,
      streams,
      sharers,
      holders: shares.envelopes.length,
      threshold: group.graph.threshold,
    };
  }

  #terms(round: number): Terms {
    const { bits, length } = this.#size;
    const hashes = { modelHash: new Uint8Array(32).fill(1), taskHash: new Uint8Array(32).fill(2) };
    return create(TermsSchema, {
      run: "claims",
      round,
      attempt: 1,
      bits,
      length,
      corrupt: 100,
      lost: 100,
      ...hashes,
    });
  }
}

type Out<Sent> = { readonly sent: Sent; readonly length: number };

/** Sends an answer as far as its encoded messages, of which the last is handed back. */
async function sentBy<D extends DescMessage>(
  schema: D,
  answer: { send(link: Site["link"], signal: AbortSignal): Promise<unknown> },
): Promise<Out<MessageShape<D>>> {
  let length = 0;
  let sent: MessageShape<D> | undefined;
  const take = async (message: MessageShape<D>) => {
    length += encode(schema, message).length;
    sent = message;
    return create(AckSchema);
  };
  const upload = async (parts: AsyncIterable<MessageShape<D>>) => {
    for await (const part of parts) await take(part);
    return create(AckSchema);
  };
  const link = { advertise: take, pick: take, share: take, attest: take, reveal: take, upload };
  await answer.send(link as unknown as Site["link"], new AbortController().signal);
  return { sent: sent!, length };
}

function siteOf({ own, authority }: Cast, platform: Platform): Site {
  const none = () => {
    throw new Error("a device without training has none");
  };
  return {
    identity: { federation: "claims", ...own, authority },
    policy: defaultPolicy([]),
    data: none,
    folder: "",
    link: undefined as never,
    store: memoryStore(),
    engine: none,
    runtime: { open: none },
    clock: systemClock(),
    jitter: seededRandom("claims"),
    secret: platformRandom(),
    ledger: memoryLedger(),
    spending: memorySpending(),
    emit: () => {},
    ...platform,
  };
}
