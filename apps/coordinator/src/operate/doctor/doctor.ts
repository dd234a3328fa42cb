import { access, constants, stat } from "node:fs/promises";
import { dirname, isAbsolute, join } from "node:path";
import { asFault, Fault } from "@tutti/foundation/fault";
import { examine, type Finding, type Look, skew } from "@tutti/foundation/finding";
import { leaderBehind } from "@tutti/wire/status";
import type { Config } from "../../folder/config.ts";
import { artifactsFolder, PATHS, readConfig } from "../../folder/layout.ts";
import { openReader, type Reader } from "../../store/reader.ts";
import { keyChecks } from "./keys.ts";
import { machineChecks } from "./machine.ts";
import { type Caller, operationsPort, portOf } from "./port.ts";

/**
 * Looks at everything a coordinator needs, also while it runs, and changes nothing: one small file is written
 * and removed to see that the disk takes it. `hello` asks a coordinator for its clock.
 */
export async function examineFederation(folder: string, hello: Caller): Promise<Finding[]> {
  const config = await readConfig(folder).catch((error: unknown) => error);
  if (config instanceof Error) return [await examine("tutti.json", () => Promise.reject(config))];
  const given = config as Config;
  const findings = await Promise.all([
    examine("tutti.json", () => ({ state: "ok", says: `federation ${given.name}` }) as const),
    ...machineChecks(await lasting(folder, given), given.limits.connections),
    ...keyChecks(folder, Date.now()),
    examine("artifacts", () => artifacts(folder, given)),
    examine("port", () => portOf(folder, given)),
    ...(given.operations
      ? [examine("operations port", () => operationsPort(folder, given.operations!))]
      : []),
    examine("coordinator", () => reached(hello)),
  ]);
  return [...findings, ...(await storeChecks(folder, given))];
}

/** Where this machine keeps what must last. Null for a folder that is not there, which other looks tell. */
async function lasting(folder: string, config: Config): Promise<string | null> {
  if (config.store.engine === "sqlite") return dirname(join(folder, PATHS.store));
  const place = config.artifacts.s3 ? null : artifactsFolder(folder, config);
  const isThere = place !== null && (await stat(place).catch(() => null))?.isDirectory();
  return isThere ? place : null;
}

async function reached(hello: Caller): Promise<Look> {
  try {
    return skew(Date.now(), await hello(), "the coordinator that answers there");
  } catch (error) {
    const leader = leaderBehind(error);
    if (leader !== undefined)
      return {
        state: "ok",
        says: `stands by; ${leader === null ? "no other leads yet" : `${leader} leads`}`,
      };
    const todo = "Start it with `tutti serve`; where it runs, see that devices can dial it";
    return { state: "warn", says: "does not answer where devices dial", todo };
  }
}

async function artifacts(folder: string, config: Config): Promise<Look> {
  const { s3 } = config.artifacts;
  if (s3) {
    const { bucket, credentialsFile: file } = s3;
    await access(isAbsolute(file) ? file : join(folder, file), constants.R_OK);
    return { state: "ok", says: `bucket ${bucket}; its credentials are readable, it was not asked` };
  }
  const place = artifactsFolder(folder, config);
  const todo = `Make ${place} a folder that this user may write`;
  const there = await stat(place).catch(() => null);
  if (there === null) return { state: "warn", says: `${place} is not there yet`, todo };
  if (!there.isDirectory()) return { state: "fail", says: `${place} is no folder`, todo };
  const writable = await access(place, constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
  return writable
    ? { state: "ok", says: place }
    : { state: "fail", says: `${place} cannot be written`, todo };
}

async function storeChecks(folder: string, config: Config): Promise<Finding[]> {
  const reader = await openReader(folder, config).catch(asFault);
  if (reader instanceof Fault) {
    const found = await failed("store", reader);
    // SQLite's file is made at the first start; where PostgreSQL is missing something, nobody makes it.
    const isNew = config.store.engine === "sqlite" && reader.code === "not-found";
    return [isNew ? { ...found, state: "warn" } : found];
  }
  try {
    return await storeFindings(reader);
  } finally {
    await reader.close();
  }
}

async function storeFindings(reader: Reader): Promise<Finding[]> {
  const seen = await reader.migrations().catch(asFault);
  if (seen instanceof Fault) return [await failed("store", seen)];
  const first: Finding = { what: "store", ...migrations(reader.engine, seen) };
  if (first.state === "fail") return [first];
  const all = [first, await examine("store settings", () => settings(reader))];
  // Nothing is in it yet.
  if (seen.applied === 0) return all;
  return [
    ...all,
    await examine("leader", () => leader(reader)),
    await examine("audit log", () => auditLog(reader)),
  ];
}

function failed(what: string, fault: Fault): Promise<Finding> {
  return examine(what, () => Promise.reject(fault));
}

const DAMAGED =
  "Keep the store as it is, and find out who or what changed it: `tutti audit verify` says more";

async function auditLog(reader: Reader): Promise<Look> {
  try {
    const { count, begins } = await reader.audit([]);
    const from = begins.count > 0 ? ` from entry ${begins.count} on` : "";
    return { state: "ok", says: `whole${from}, ${count} entries` };
  } catch (cause) {
    const { code, message } = asFault(cause);
    const todo = code === "refused" ? DAMAGED : "Look at the store first: its log cannot be read";
    return { state: "fail", says: message, todo };
  }
}

type Migrations = Awaited<ReturnType<Reader["migrations"]>>;

function migrations(engine: Reader["engine"], { applied, known }: Migrations): Look {
  if (applied === 0)
    return {
      state: "warn",
      says: `${engine}, empty: no coordinator has opened it yet`,
      todo: "`tutti serve` fills it when it starts",
    };
  const says = `${engine}, migration ${applied} of ${known}`;
  if (applied === known) return { state: "ok", says };
  if (applied < known)
    return { state: "warn", says, todo: "The next start of `tutti serve` migrates it; back it up" };
  return { state: "fail", says, todo: "It was written by a newer Tutti; use that one" };
}

async function settings(reader: Reader): Promise<Look> {
  const all = Object.entries(await reader.durable());
  const wrong = all.filter(([, { ok }]) => !ok);
  const told = (some: typeof all) => some.map(([name, { got }]) => `${name} ${got}`).join(", ");
  if (wrong.length === 0) return { state: "ok", says: told(all) };
  return { state: "fail", says: told(wrong), todo: "Set it: an acknowledged upload may be lost otherwise" };
}

async function leader(reader: Reader): Promise<Look> {
  const { epoch, address } = await reader.lease();
  if (epoch === 0) return { state: "ok", says: "nobody has led yet" };
  return { state: "ok", says: `epoch ${epoch}${address ? `, ${address}` : ""}` };
}
