import { Fault } from "@tutti/foundation/fault";
import type { Round } from "@tutti/round/round";
import { givers } from "@tutti/round/view";
import { RoundRecordSchema } from "@tutti/wire/admin";
import type { JournalEntry, RunHeader } from "@tutti/wire/journal";
import { JournalEntrySchema, RunHeaderSchema } from "@tutti/wire/journal";
import { decode, encode } from "@tutti/wire/message";
import type { SignedEnvelope } from "@tutti/wire/release";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { MAX_MESSAGE_BYTES } from "@tutti/wire/rpc";
import type { Change, Store } from "../store/store.ts";
import type { SignedRelease } from "./complete.ts";
import { noteOfClose } from "./notes.ts";
import type { Shelf } from "./retention.ts";
import type { Sums } from "./waiting.ts";

/** A journal entry holds at most one stage message, which travelled as one message. */
const MAX_ENTRY_BYTES = 2 << 20;
const MAX_HEADER_BYTES = 64 << 20;

/** One run's part of the store: its journal in order, its running sums, its header. */
export type RunStore = {
  /** Entries of the round in progress, as far as this process knows. */
  entries(): number;
  /** As the last commit left them: header, newest release, and the round in progress. */
  read(): Promise<{
    header: RunHeader;
    parent: SignedEnvelope;
    entries: JournalEntry[];
    sums: Sums;
  }>;
  /** Appends entries, and the running sums that changed, in one transaction. */
  append(entries: readonly JournalEntry[], changed: Sums): Promise<void>;
  /**
   * Closes the round: new header, who took part, maybe a release, an empty journal, in one transaction. What
   * is kept is returned: a header holds the newest records of its history, those before are rows.
   */
  close(header: RunHeader, of?: Closing): Promise<RunHeader>;
};

export type Closing = {
  /** The round that ends. */
  readonly round: Round | null;
  readonly wallMs: number;
  readonly release?: SignedRelease | undefined;
  /** Whose wish it is; the coordinator's own end where nobody is named. */
  readonly by?: string | undefined;
};

/** Records that a header holds: it is written whole at every close, and sent with every status. */
export const NEWEST_RECORDS = 100;

/** `shelf`: the run's files, where they are written down. */
export function runStoreOf(store: Store, run: string, shelf?: Pick<Shelf, "made" | "closed">): RunStore {
  let next = 0;
  return {
    entries: () => next,
    async read() {
      const { entries, sums } = await store.journal(run);
      const stored = await store.run(run);
      const newest = await store.newestRelease(run);
      const got = stored ? "no release" : "none";
      if (!stored || !newest)
        throw new Fault("storage", `run ${run.slice(0, 12)}`, { expected: "a run", got });
      next = entries.length;
      return {
        header: decodeHeader(stored.header),
        parent: decode(SignedEnvelopeSchema, newest.envelope, MAX_MESSAGE_BYTES),
        entries: entries.map((bytes) => decode(JournalEntrySchema, bytes, MAX_ENTRY_BYTES)),
        sums: new Map(sums.map((sum) => [sum.cohort, words(sum.words)])),
      };
    },
    async append(entries, changed) {
      const append = entries.map((entry, at) => ({
        seq: next + at,
        entry: encode(JournalEntrySchema, entry),
      }));
      await store.commit(run, {
        append,
        sums: [...changed].map(([cohort, sum]) => ({ cohort, words: bytes(sum) })),
      });
      next += entries.length;
    },
    async close(whole, { round, wallMs, release, by } = { round: null, wallMs: 0 }) {
      const { header, history } = parted(whole);
      const files = shelf?.made(header) ?? [];
      await store.commit(run, {
        header: encode(RunHeaderSchema, header),
        state: header.state,
        ...(history.length > 0 && { history }),
        ...(files.length > 0 && { files }),
        clearJournal: true,
        note: noteOfClose(run, header, { release, by }),
        ...(round && { took: { round: round.spec.task.round, ...givers(round), wallMs } }),
        ...(release
          ? { release: { ...release, envelope: encode(SignedEnvelopeSchema, release.envelope) } }
          : {}),
      });
      next = 0;
      shelf?.closed(header);
      return header;
    },
  };
}

/** The header with the newest records, and those before as rows; one of an older Tutti may have many. */
function parted(whole: RunHeader): { header: RunHeader; history: NonNullable<Change["history"]> } {
  const over = Math.max(0, whole.history.length - NEWEST_RECORDS);
  const history = whole.history
    .slice(0, over)
    .map((record, i) => ({ at: whole.earlier + i, record: encode(RoundRecordSchema, record) }));
  const header = { ...whole, history: whole.history.slice(over), earlier: whole.earlier + over };
  return { header, history };
}

export function decodeHeader(bytes: Uint8Array): RunHeader {
  return decode(RunHeaderSchema, bytes, MAX_HEADER_BYTES);
}

function bytes(sum: Uint32Array): Uint8Array {
  return new Uint8Array(sum.buffer.slice(sum.byteOffset, sum.byteOffset + sum.byteLength));
}

function words(stored: Uint8Array): Uint32Array {
  return new Uint32Array(stored.slice().buffer);
}
