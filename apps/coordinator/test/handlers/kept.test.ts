import { join } from "node:path";
import { HistoryRequestSchema, ReleasesRequestSchema, RoundRecordSchema } from "@tutti/wire/admin";
import { RunHeaderSchema } from "@tutti/wire/journal";
import { create, encode } from "@tutti/wire/message";
import { afterEach, beforeEach, expect, test } from "vitest";
import { decodeHeader } from "../../src/drive/run-store.ts";
import { openStore, type Store } from "../../src/store/store.ts";
import { plan, temporary } from "../drive/house.ts";
import { callOf, Desk } from "./desk.ts";

/** What a run's owner is answered once `retention` took rows away. */
const RECORDS = 1_300;
let place: ReturnType<typeof temporary>;
let run: string;
beforeEach(async () => {
  place = temporary();
  const desk = await Desk.open(place.folder);
  run = await desk.startRun(plan());
  await desk.close();
  await inStore(async (store) => {
    const { header, plan: envelope } = (await store.run(run))!;
    const record = (round: number) => create(RoundRecordSchema, { round });
    const old = { ...decodeHeader(header), earlier: RECORDS, history: [record(RECORDS)] };
    await store.commit(run, {
      header: encode(RunHeaderSchema, old),
      history: Array.from({ length: RECORDS }, (_, at) => ({
        at,
        record: encode(RoundRecordSchema, record(at)),
      })),
    });
    for (let version = 1; version < 5; version++)
      await store.commit(run, { release: { version, digest: `${version}`, envelope } });
  });
});
afterEach(() => place.remove());

async function inStore(body: (store: Store) => Promise<unknown>): Promise<void> {
  const store = await openStore({ file: join(place.folder, "tutti.sqlite") });
  await body(store);
  await store.close();
}

/** Keeps only records from a place on and so many manifests, and what an owner who pages then gets. */
async function pages(records: number, releases: number) {
  await inStore(async (store) => {
    while ((await store.forgetRows(run, { records, releases })) > 0);
  });
  const desk = await Desk.open(place.folder);
  const call = callOf("owner", "owner");
  const rounds: number[] = [];
  const firsts: number[] = [];
  for (let from = 0; ; ) {
    const reply = await desk.owner.history(create(HistoryRequestSchema, { run, from }), call);
    if (reply.records.length === 0) break;
    firsts.push(reply.from);
    rounds.push(...reply.records.map(({ round }) => round));
    from = reply.from + reply.records.length;
  }
  const { manifests, next, more } = await desk.owner.releases(create(ReleasesRequestSchema, { run }), call);
  await desk.close();
  return { rounds, firsts, manifests: manifests.length, next, more };
}

const from = (first: number) => Array.from({ length: RECORDS + 1 - first }, (_, at) => first + at);

test("nothing gone: every record and manifest, in pages", async () => {
  const met = await pages(0, 5);
  expect(met).toEqual({ rounds: from(0), firsts: [0, 500, 1000, 1300], manifests: 5, next: 5, more: false });
});

test("old ones gone: the first page begins with what is there, and says where that is", async () => {
  const met = await pages(700, 2);
  expect(met).toEqual({ rounds: from(700), firsts: [700, 1200, 1300], manifests: 2, next: 5, more: false });
});

test("every row gone: those of the header, and the run is taken up with its newest release", async () => {
  const met = await pages(RECORDS, 1);
  expect(met).toEqual({ rounds: [RECORDS], firsts: [RECORDS], manifests: 1, next: 5, more: false });
});
