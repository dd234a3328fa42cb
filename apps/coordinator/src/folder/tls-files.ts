import { createPrivateKey, X509Certificate } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { demand } from "@tutti/foundation/check";
import { asFault, Fault } from "@tutti/foundation/fault";
import { publish, writeSynced } from "./files.ts";
import { PATHS, readText } from "./layout.ts";
import type { Tls } from "./tls.ts";

/** How often the files are looked at; a signal makes it at once. */
const LOOK_MS = 1_000;

/** Key and certificate of a federation folder. @throws Fault where they do not belong together. */
export async function readTls(folder: string): Promise<Tls> {
  const key = await readText(folder, PATHS.tlsKey);
  const certificate = await readText(folder, PATHS.tlsCertificate);
  const shown = pem(folder, PATHS.tlsCertificate, () => new X509Certificate(certificate));
  const secret = pem(folder, PATHS.tlsKey, () => createPrivateKey(key));
  demand(
    shown.checkPrivateKey(secret),
    () =>
      new Fault("bad-input", PATHS.tlsCertificate, {
        expected: `the key of ${PATHS.tlsKey}`,
        got: "another",
        todo: RENEW,
      }),
  );
  return { key, certificate };
}

const RENEW = "Make both anew with `tutti tls renew`";

/** What came of reading a PEM file; of one that is none its name is told, and nothing of what is in it. */
export function pem<T>(folder: string, path: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const detail = { expected: "a PEM file", got: "other text", todo: RENEW, cause };
    throw new Fault("bad-input", join(folder, path), detail);
  }
}

/** Puts others in their place. A reader between the two sees a pair that does not fit, and looks again. */
export async function writeTls(folder: string, { key, certificate }: Tls, part: string): Promise<void> {
  for (const [path, text, mode] of [
    [PATHS.tlsKey, key, 0o600],
    [PATHS.tlsCertificate, certificate, 0o644],
  ] as const)
    await writeSynced(join(folder, `${path}.${part}`), text, mode);
  for (const path of [PATHS.tlsKey, PATHS.tlsCertificate])
    await publish(join(folder, `${path}.${part}`), join(folder, path));
}

export type TlsWatch = {
  /** Looks now. */
  look(): Promise<void>;
  close(): void;
};

/**
 * Looks at the files now and then, and at once when asked. What is read and belongs together is handed on;
 * where that fails it is tried again with the next look.
 */
export function watchTls(options: {
  readonly folder: string;
  readonly present: Tls;
  readonly change: (tls: Tls) => Promise<void>;
  readonly failed: (fault: Fault) => void;
}): TlsWatch {
  const { folder, change, failed } = options;
  let { present } = options;
  let [seen, told] = ["", ""];
  const read = async () => {
    const tls = await readTls(folder);
    if (tls.certificate !== present.certificate) await change(tls);
    present = tls;
  };
  const look = async (force: boolean) => {
    const now = await stamps(folder);
    if (!force && now === seen) return;
    try {
      await read();
      [seen, told] = [now, ""];
    } catch (error) {
      const fault = asFault(error, "storage");
      // Once for each that is new: it is looked at again every second.
      if (fault.message !== told) failed(fault);
      told = fault.message;
    }
  };
  let looking = Promise.resolve();
  const next = (force: boolean) => {
    looking = looking.then(() => look(force));
    return looking;
  };
  const timer = setInterval(() => void next(false), LOOK_MS);
  timer.unref();
  return { look: () => next(true), close: () => clearInterval(timer) };
}

async function stamps(folder: string): Promise<string> {
  const of = async (path: string) => {
    const found = await stat(join(folder, path)).catch(() => null);
    return found ? `${found.mtimeMs} ${found.size} ${found.ino}` : "none";
  };
  return `${await of(PATHS.tlsKey)} ${await of(PATHS.tlsCertificate)}`;
}
