import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fromBase64, fromHex, fromUtf8, hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { CertificateSchema } from "@tutti/wire/device";
import { decode, encode } from "@tutti/wire/message";
import { fieldsOf } from "../fields.ts";
import { type Policy, parsePolicy } from "../policy.ts";
import type { DeviceIdentity } from "../site.ts";
import { replaceFile } from "./atomic.ts";
import { nativeSigningKey, type TlsIdentity, tlsIdentity } from "./sign.ts";

/** Files of a device's folder, beside its state (store.ts). The key's is readable by its owner alone. */
export const FILES = {
  device: "device.json",
  key: "device.key",
  certificate: "device.cert",
  policy: "policy.json",
  privacy: "privacy.log",
  audit: "audit.log",
  /** Rounds whose sum the device helped to open. */
  rounds: "rounds.log",
};

export const MAX_CERTIFICATE_BYTES = 64 << 10;

/** What `device.json` says: where the coordinator is, and what was pinned when joining. */
export type DeviceConfig = {
  readonly federation: string;
  readonly name: string;
  readonly address: string;
  /** Of further coordinators. */
  readonly addresses: readonly string[];
  /** PEM of every certificate that is pinned. */
  readonly tls: string;
  readonly authority: Uint8Array;
};

export function configText(config: DeviceConfig): string {
  const { federation, name, address, addresses, tls, authority } = config;
  const further = addresses.length > 0 ? { addresses } : {};
  const plain = { version: 1, federation, name, address, ...further, tls, authority: hex(authority) };
  return `${JSON.stringify(plain, null, 2)}\n`;
}

export async function readConfig(folder: string): Promise<DeviceConfig> {
  const todo = "Join a federation first, with the join file its operator gave you";
  const fields = fieldsOf(FILES.device, fromUtf8(await readNeeded(join(folder, FILES.device), todo)));
  fields.literal("version", 1);
  const config = {
    federation: fields.string("federation"),
    name: fields.string("name"),
    address: fields.string("address"),
    addresses: fields.optional("addresses", () => fields.strings("addresses")) ?? [],
    tls: fields.string("tls"),
    authority: fromHex(fields.string("authority"), `${FILES.device}, field authority`),
  };
  fields.done();
  return config;
}

export async function readIdentity(
  folder: string,
  { federation, name, authority }: DeviceConfig,
): Promise<DeviceIdentity> {
  const seed = await readSeed(folder);
  const held = await readNeeded(join(folder, FILES.certificate), JOIN_HERE);
  let certificate = decode(CertificateSchema, held, MAX_CERTIFICATE_BYTES);
  return {
    federation,
    name,
    authority,
    key: nativeSigningKey(seed),
    get certificate() {
      return certificate;
    },
    async keep(renewed) {
      await replaceFile(join(folder, FILES.certificate), encode(CertificateSchema, renewed));
      certificate = renewed;
    },
  };
}

/** What this device shows where TLS asks for a certificate. */
export async function readShown(folder: string): Promise<TlsIdentity> {
  return tlsIdentity(await readSeed(folder));
}

const JOIN_HERE =
  "Ask for a new join file of the same name, move device.json away and join in this folder: the key stays";
const JOIN_AGAIN = "Join under a new name: a key that is lost cannot be replaced";

async function readSeed(folder: string): Promise<Uint8Array> {
  return fromBase64(fromUtf8(await readNeeded(join(folder, FILES.key), JOIN_AGAIN)).trim(), FILES.key);
}

/** The site's policy. @throws Fault("refused") when it is missing or unreadable: then nothing is allowed. */
export async function readPolicy(folder: string): Promise<Policy> {
  const file = join(folder, FILES.policy);
  const bytes = await readFile(file).catch((cause) => {
    const todo = "Restore the file; without one this device takes part in nothing";
    throw new Fault("refused", FILES.policy, {
      expected: "a readable file",
      got: saidOf(cause),
      todo,
      cause,
    });
  });
  return parsePolicy(fromUtf8(bytes, FILES.policy));
}

async function readNeeded(file: string, todo: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new Fault("not-found", file, { expected: "a readable file", got: saidOf(cause), todo, cause });
  }
}

function saidOf(cause: unknown): string {
  return (cause as NodeJS.ErrnoException).code === "ENOENT" ? "nothing there" : `${cause}`;
}
