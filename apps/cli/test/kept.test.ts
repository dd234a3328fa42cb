import {
  HistoryReplySchema,
  ReleasesReplySchema,
  RoundRecordSchema,
  RunStatusSchema,
} from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { SignedEnvelopeSchema } from "@tutti/wire/release";
import { expect, test } from "vitest";
import { type AdminLink, releasesOf, withHistory } from "../src/owner.ts";
import { goneLine, statusValue } from "../src/status.ts";

const record = (round: number) => create(RoundRecordSchema, { round });
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, at) => from + at);

/** A coordinator with 250 records, the newest 50 in its header, of which old ones go with each question. */
function link(gone: readonly number[]): AdminLink {
  let asked = 0;
  return {
    history: async ({ from }: { from: number }) => {
      const at = Math.max(from, gone[Math.min(asked++, gone.length - 1)]!);
      return create(HistoryReplySchema, { records: range(at, Math.min(250, at + 90)).map(record), from: at });
    },
    releases: async ({ from }: { from: number }) => {
      const at = Math.max(from, gone[0]!);
      const next = Math.min(250, at + 90);
      const manifests = range(at, next).map((it) =>
        create(SignedEnvelopeSchema, { payload: Uint8Array.of(it) }),
      );
      return create(ReleasesReplySchema, { manifests, more: next < 250, next });
    },
  } as unknown as AdminLink;
}

const status = create(RunStatusSchema, { earlier: 200, history: range(200, 250).map(record) });

test.each([
  ["nothing is gone", [0], 0],
  ["old records are gone", [120], 120],
  ["older ones go while they are read", [0, 130], 130],
  ["all go that the header does not have", [0, 240], 200],
])("history where %s", async (_, gone, first) => {
  const whole = await withHistory(link(gone), status);
  expect(whole.earlier).toBe(first);
  expect(whole.history.map(({ round }) => round)).toEqual(range(first, 250));
  expect(statusValue(whole).earlier).toBe(first);
});

test("releases from the first that is there, page after page", async () => {
  const { manifests } = await releasesOf(link([40]), "r");
  expect(manifests.map(({ payload }) => payload[0])).toEqual(range(40, 250));
});

test("what is gone is said with its number and the rule", () => {
  expect(goneLine(1)).toMatch(/^the first record is gone: .*retention\.rounds/);
  expect(goneLine(900)).toMatch(/^the first 900 records are gone/);
});
