import type { Note } from "@tutti/audit/entry";
import { equalBytes } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { sql } from "kysely";
import { failpoint } from "../failpoint.ts";
import { addNote } from "./audit.ts";
import type { Leading } from "./commit.ts";
import type { Tx } from "./engine.ts";
import { mustLead } from "./lease.ts";

/** What a coordinator keeps for devices, signed by others or by itself. */
export type Kind = "revocations" | "tls";
export type Statement = { readonly version: number; readonly envelope: Uint8Array };
export type Renewed = { readonly serial: Uint8Array; readonly certificate: Uint8Array };
/** A device as an operator lists it. */
export type Listed = {
  readonly name: string;
  readonly certificate: Uint8Array;
  readonly revoked: boolean;
  readonly addedMs: number;
  /** It asked for a new certificate and has none yet. */
  readonly asks: boolean;
};

export type Asking = {
  readonly name: string;
  readonly request: Uint8Array;
  readonly isUseful: (granted: Uint8Array) => boolean;
  /** Whether a request that is kept already asks for the same. */
  readonly isSame: (kept: Uint8Array) => boolean;
};

/** How trust goes on and ends, in the store; the same rules as for the rest of it (store.ts). */
export type TrustStore = {
  listed(): Promise<Listed[]>;
  /**
   * Notes that the device asked. What the authority signed since for it; null while there is nothing, or only
   * what is of no use any more. Asked again for the same it only reads.
   */
  askRenewal(asking: Asking): Promise<Uint8Array | null>;
  /** Requests without an answer, oldest first. */
  renewals(): Promise<Uint8Array[]>;
  /** The authority's answer; false where nobody of this name asks. */
  grantRenewal(name: string, granted: Uint8Array): Promise<boolean>;
  /** The certificate that goes on where the device's ends; false for a device that is unknown or revoked. */
  renew(name: string, renewed: Renewed): Promise<boolean>;
  statement(kind: Kind): Promise<Statement | undefined>;
  /** The same again: fine. @throws Fault("conflict") for a version that does not go on from the one there. */
  putStatement(kind: Kind, statement: Statement): Promise<void>;
  /**
   * Revokes, and keeps the list that says so, in one transaction; false where there is no such device. Of one
   * that was revoked before nothing is noted anew.
   */
  revoke(name: string, list: Statement | null, by?: string): Promise<boolean>;
  /**
   * Returns when no write of these is under way whose answer may have been lost: from then on, what is read
   * is what became of it.
   */
  outwait(): Promise<void>;
};

export function trustStoreOf(leading: Leading): TrustStore {
  const { engine, nowMs = Date.now } = leading;
  const { db } = engine;
  const write = <T>(body: (tx: Tx) => Promise<T>) => writing(leading, body);
  /** With a note of it where something was done. */
  const noted = (note: Note, body: (tx: Tx) => Promise<boolean>) =>
    write(async (tx) => {
      const done = await body(tx);
      if (done) await addNote(engine, tx, { note, wallMs: nowMs() });
      return done;
    });
  const store: TrustStore = {
    listed: () => listed(leading),
    async askRenewal(asking) {
      // Anybody may ask, as often as the network carries: no write, and no lock, for what is kept already.
      const known = answerTo(asking, await keptOf(db, asking.name));
      return known === undefined ? await write((tx) => ask(tx, asking, nowMs())) : known;
    },
    async renewals() {
      const waiting = db.selectFrom("renewals").select("request").where("granted", "is", null);
      return (await waiting.orderBy("asked_ms").execute()).map(({ request }) => request);
    },
    grantRenewal: (name, granted) => write((tx) => grant(tx, name, granted)),
    renew: (name, renewed) => {
      const note = { actor: name, what: "device.renewed", subject: sha256Hex(renewed.certificate) };
      return noted(note, (tx) => renew(tx, name, renewed));
    },
    statement: (kind) => statementOf(db, kind),
    putStatement: (kind, statement) => write((tx) => put(tx, kind, statement)),
    revoke: async (name, list, by = "owner") => {
      failpoint("store.revoke.before");
      const note = { actor: by, what: "device.revoked", subject: name };
      const known = await write(async (tx) => {
        const isNew = await revoke(tx, name);
        if (!isNew && !(await isThere(tx, name))) return false;
        if (list) await put(tx, "revocations", list);
        if (isNew) await addNote(engine, tx, { note, wallMs: nowMs() });
        return true;
      });
      failpoint("store.revoke.durable");
      return known;
    },
    // One that was told "commit" has the lock until it ends; without that word it never happens (journal.ts).
    outwait: () => db.transaction().execute((tx) => engine.alone(tx)),
  };
  return guarded(store, leading);
}

/** How many devices of a site are enrolled and not revoked. */
export async function countAt(tx: Tx, site: string): Promise<number> {
  const { count } = await tx
    .selectFrom("devices")
    .select(({ fn }) => fn.countAll<number | bigint | string>().as("count"))
    .where("site", "=", site)
    .where("revoked", "=", 0)
    .executeTakeFirstOrThrow();
  return Number(count);
}

function writing<T>({ engine, epoch }: Leading, body: (tx: Tx) => Promise<T>): Promise<T> {
  return engine.db.transaction().execute(async (tx) => {
    await mustLead(engine, tx, { epoch, alone: true });
    return await body(tx);
  });
}

async function listed({ engine }: Leading): Promise<Listed[]> {
  const rows = await engine.db
    .selectFrom("devices")
    .leftJoin("renewals", "renewals.name", "devices.name")
    .select(["devices.name", "certificate", "revoked", "added_ms"])
    .select(sql<number>`case when renewals.name is null then 0 else 1 end`.as("asks"))
    .orderBy("devices.name")
    .execute();
  return rows.map(({ revoked, added_ms, asks, ...row }) => ({
    ...row,
    revoked: revoked !== 0,
    addedMs: added_ms,
    asks: asks !== 0,
  }));
}

type KeptRequest = { readonly request: Uint8Array; readonly granted: Uint8Array | null };

function keptOf(db: Leading["engine"]["db"], name: string): Promise<KeptRequest | undefined> {
  return db.selectFrom("renewals").select(["request", "granted"]).where("name", "=", name).executeTakeFirst();
}

/** Undefined where the request is to be kept. */
function answerTo({ isUseful, isSame }: Asking, kept?: KeptRequest): Uint8Array | null | undefined {
  if (kept?.granted) return isUseful(kept.granted) ? kept.granted : undefined;
  return kept && isSame(kept.request) ? null : undefined;
}

async function ask(tx: Tx, asking: Asking, nowMs: number): Promise<Uint8Array | null> {
  const { name, request } = asking;
  const there = await keptOf(tx, name);
  const known = answerTo(asking, there);
  if (known !== undefined) return known;
  const anew = { request, granted: null };
  if (there) await tx.updateTable("renewals").set(anew).where("name", "=", name).execute();
  else
    await tx
      .insertInto("renewals")
      .values({ name, asked_ms: nowMs, ...anew })
      .execute();
  return null;
}

async function grant(tx: Tx, name: string, granted: Uint8Array): Promise<boolean> {
  const done = await tx.updateTable("renewals").set({ granted }).where("name", "=", name).executeTakeFirst();
  return done.numUpdatedRows > 0n;
}

async function renew(tx: Tx, name: string, { serial, certificate }: Renewed): Promise<boolean> {
  await tx.deleteFrom("renewals").where("name", "=", name).execute();
  const change = tx.updateTable("devices").set({ serial, certificate });
  const done = await change.where("name", "=", name).where("revoked", "=", 0).executeTakeFirst();
  return done.numUpdatedRows > 0n;
}

/** Whether it was not yet. */
async function revoke(tx: Tx, name: string): Promise<boolean> {
  await tx.deleteFrom("renewals").where("name", "=", name).execute();
  const change = tx.updateTable("devices").set({ revoked: 1 });
  const done = await change.where("name", "=", name).where("revoked", "=", 0).executeTakeFirst();
  return done.numUpdatedRows > 0n;
}

async function isThere(tx: Tx, name: string): Promise<boolean> {
  const row = await tx.selectFrom("devices").select("name").where("name", "=", name).executeTakeFirst();
  return row !== undefined;
}

function statementOf(db: Leading["engine"]["db"], kind: Kind): Promise<Statement | undefined> {
  return db
    .selectFrom("statements")
    .select(["version", "envelope"])
    .where("kind", "=", kind)
    .executeTakeFirst();
}

async function put(tx: Tx, kind: Kind, { version, envelope }: Statement): Promise<void> {
  const there = await statementOf(tx, kind);
  if (!there) return void (await tx.insertInto("statements").values({ kind, version, envelope }).execute());
  if (there.version === version && equalBytes(there.envelope, envelope)) return;
  if (version <= there.version)
    throw new Fault("conflict", kind, {
      expected: `a version after ${there.version}`,
      got: `${version}`,
      todo: "Take up the newest and try again",
    });
  await tx.updateTable("statements").set({ version, envelope }).where("kind", "=", kind).execute();
}

function guarded(store: TrustStore, { engine }: Leading): TrustStore {
  const wrap =
    <A extends unknown[], R>(what: string, method: (...args: A) => Promise<R>) =>
    (...args: A): Promise<R> =>
      method(...args).catch((cause: unknown) => {
        throw engine.faultOf(cause, what);
      });
  return {
    listed: wrap("listing devices", store.listed),
    askRenewal: wrap("noting a renewal", store.askRenewal),
    renewals: wrap("reading renewals", store.renewals),
    grantRenewal: wrap("granting a renewal", store.grantRenewal),
    renew: wrap("renewing a device", store.renew),
    statement: wrap("reading a statement", store.statement),
    putStatement: wrap("keeping a statement", store.putStatement),
    revoke: wrap("revoking a device", store.revoke),
    outwait: wrap("waiting for what is being written", store.outwait),
  };
}
