import { existsSync } from "node:fs";
import { access, constants, stat, statfs } from "node:fs/promises";
import { join, resolve } from "node:path";
import { equalBytes } from "@tutti/foundation/bytes";
import { asFault, Fault } from "@tutti/foundation/fault";
import { examine, expiry, type Finding, type Look, skew } from "@tutti/foundation/finding";
import { verifyCertificate } from "@tutti/identity/certificate";
import { denialOf } from "@tutti/identity/denial";
import { HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { RevocationsRequestSchema } from "@tutti/wire/standing";
import { isOtherCertificate, leaderBehind } from "@tutti/wire/status";
import type { Link } from "../link.ts";
import { read } from "./audit.ts";
import { closedSegments } from "./audit-files.ts";
import { FILES, readConfig, readIdentity, readPolicy, readShown } from "./folder.ts";
import { connect } from "./grpc.ts";
import { openPins } from "./pins.ts";

type Config = Awaited<ReturnType<typeof readConfig>>;

const WAIT_MS = 5_000;
const MIB = 2 ** 20;
/** Less is warned of; how much a site needs depends on its model. */
const LEAST_FREE_MIB = 200;

/** Looks at everything a device in a folder needs, also while it runs; nothing is changed. */
export async function examineDevice(folder: string): Promise<Finding[]> {
  const config = await readConfig(folder).catch((error: unknown) => error);
  if (config instanceof Error) return [await examine(FILES.device, () => Promise.reject(config))];
  const given = config as Config;
  const looked = await Promise.all([
    examine(
      FILES.device,
      (): Look => ({ state: "ok", says: `${given.name} of federation ${given.federation}` }),
    ),
    examine("policy", () => policy(folder)),
    examine("key", () => key(folder)),
    examine("certificate", () => certificate(folder, given)),
    examine("audit log", () => audit(folder, given.name)),
    examine("disk space", () => space(folder)),
  ]);
  return [...looked, ...(await coordinator(folder, given))];
}

async function policy(folder: string): Promise<Look> {
  const { dataFolder, owners } = await readPolicy(folder);
  const says = `approves ${owners.map(({ name }) => name).join(", ") || "nobody"}`;
  if (owners.length === 0)
    return { state: "warn", says, todo: "Name an owner, or this device refuses every task" };
  if (dataFolder === null) return { state: "ok", says };
  const place = resolve(folder, dataFolder);
  const readable = await access(place, constants.R_OK).then(
    () => true,
    () => false,
  );
  if (readable) return { state: "ok", says: `${says}; rows in ${place}` };
  return { state: "fail", says: `${place} cannot be read`, todo: "Correct dataFolder in policy.json" };
}

async function key(folder: string): Promise<Look> {
  const file = join(folder, FILES.key);
  const bits = (await stat(file)).mode & 0o777;
  if ((bits & 0o077) === 0) return { state: "ok", says: `there, mode ${bits.toString(8)}` };
  return { state: "fail", says: `mode ${bits.toString(8)}: others may read it`, todo: `chmod 600 ${file}` };
}

async function certificate(folder: string, config: Config): Promise<Look> {
  const identity = await readIdentity(folder, config);
  const nowS = Math.floor(Date.now() / 1000);
  const { authority } = config;
  const trust = { authority, role: "device", nowS } as const;
  const { publicKey, notAfterS, name } = verifyCertificate(identity.certificate, trust);
  if (!equalBytes(publicKey, identity.key.publicKey) || name !== config.name)
    throw new Fault("refused", FILES.certificate, {
      expected: `${config.name}'s, for device.key`,
      got: "another",
    });
  return expiry(notAfterS, nowS, "It renews by itself while the device is connected; else ask the operator");
}

/**
 * Greets it as the device would: the address answers with a certificate that is pinned, or that the
 * coordinator vouches for, and the clocks agree. Then asks something signed, since greeting takes anybody.
 */
async function coordinator(folder: string, config: Config): Promise<Finding[]> {
  const link = await linkOf(folder, config).catch((error: unknown) => asFault(error));
  if (link instanceof Fault) return [await examine("coordinator", () => Promise.reject(link))];
  try {
    const greeted = await greet(link, config);
    const findings = [{ what: "coordinator", ...greeted }];
    if (greeted.state === "fail") return findings;
    return [...findings, await examine("membership", () => membership(link))];
  } finally {
    link.close();
  }
}

/** With the pins that the device has by now; newer ones are for the device itself to keep. */
async function linkOf(folder: string, config: Config): Promise<Link> {
  const { address, addresses, tls, name } = config;
  const { authority, kept } = await openPins(folder, config.authority);
  const { key } = await readIdentity(folder, config);
  const shows = await readShown(folder);
  const pins = { authority, kept, keep: async () => {} };
  return connect({ address, addresses, tls, name, key, shows, pins });
}

async function greet(link: Link, { address, addresses }: Config): Promise<Look> {
  const all = [address, ...addresses];
  try {
    const { nowMs } = await link.hello(create(HelloRequestSchema), AbortSignal.timeout(WAIT_MS));
    const looked = skew(Date.now(), nowMs, "the coordinator's clock");
    // An operator who adds coordinators asks each site: no coordinator knows which sites know of it.
    const who = all.length === 1 ? `${address}, the only address it knows,` : `one of ${all.join(", ")}`;
    return { ...looked, says: `${who} answers with a pinned certificate; ${looked.says}` };
  } catch (cause) {
    return {
      state: "fail",
      says: `${address}: ${asFault(cause).message.slice(0, 200)}`,
      todo: todoFor(cause, all),
    };
  }
}

/** Where a standby answers, the network is not what is wrong, unless the leader that it names is known. */
function todoFor(cause: unknown, all: readonly string[]): string {
  if (isOtherCertificate(cause))
    return "Somebody else answers there, or the certificate was renewed: ask the operator";
  const leader = [cause, asFault(cause).detail.cause].map(leaderBehind).find((one) => one !== undefined);
  if (leader === null) return "It answers, and none leads: the operator sees why with `tutti doctor` there";
  if (leader === undefined || all.includes(leader))
    return `Check the network: one outgoing connection to ${leader ?? "that address"} must be allowed`;
  return (
    `Add "${leader}" to \`addresses\` in ${FILES.device} and start \`tutti join\` again; ` +
    "one outgoing connection to it must be allowed"
  );
}

/** Asks for the list of who was revoked: a signed call for enrolled devices only, which changes nothing. */
async function membership(link: Link): Promise<Look> {
  try {
    await link.standing!.revocations(create(RevocationsRequestSchema), AbortSignal.timeout(WAIT_MS));
    return { state: "ok", says: "the coordinator takes what this device signs" };
  } catch (cause) {
    const { what, message, detail } = asFault(cause);
    const why = denialOf(asFault(cause));
    if (why === null) return { state: "fail", says: message.slice(0, 200) };
    const { todo } = detail;
    return {
      state: "fail",
      says: `${why}: nothing of ${what.split(":")[0]} is taken`,
      ...(todo && { todo }),
    };
  }
}

function audit(folder: string, name: string): Look {
  const file = join(folder, FILES.audit);
  if (!existsSync(file) && closedSegments(file).length === 0) return { state: "ok", says: "not begun yet" };
  const { head, torn, begins } = read(file, name);
  const from = begins > 0 ? ` from entry ${begins} on` : "";
  if (torn === 0) return { state: "ok", says: `whole${from}, ${head.count} entries` };
  return { state: "warn", says: `its last line is torn (${torn} bytes)`, todo: "The next start cuts it off" };
}

async function space(folder: string): Promise<Look> {
  const { bavail, bsize } = await statfs(folder);
  const free = Math.floor((Number(bavail) * Number(bsize)) / MIB);
  const todo = "Make room for the base model and two releases";
  return free < LEAST_FREE_MIB
    ? { state: "warn", says: `${free} MiB free`, todo }
    : { state: "ok", says: `${free} MiB free` };
}
