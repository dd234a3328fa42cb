import { X509Certificate } from "node:crypto";
import type { Fault } from "@tutti/foundation/fault";
import { readPeers } from "./layout.ts";
import type { Tls } from "./tls.ts";
import { type TlsWatch, watchTls } from "./tls-files.ts";

/** The TLS certificates of this process, as they change, and of the federation's other coordinators. */
export type ServedTls = {
  /** DER, this process's first. */
  ders(): readonly Uint8Array[];
  /** Takes up other files of the folder as they come. */
  watch(on: ServedEvents): TlsWatch;
};

export type ServedEvents = {
  /** Tells devices, before the new one is shown: whoever comes back right after knows it. */
  readonly tell: (ders: readonly Uint8Array[]) => Promise<unknown> | undefined;
  readonly show: (tls: Tls) => void;
  readonly changed: (until: string) => void;
  readonly failed: (fault: Fault) => void;
};

export async function servedTls(folder: string, present: Tls): Promise<ServedTls> {
  const others = await readPeers(folder);
  const dersOf = (tls: Tls) =>
    [tls.certificate, ...others].map((pem) => new Uint8Array(new X509Certificate(pem).raw));
  let now = present;
  return {
    ders: () => dersOf(now),
    watch: ({ tell, show, changed, failed }) =>
      watchTls({
        folder,
        present,
        failed,
        change: async (tls) => {
          await tell(dersOf(tls));
          now = tls;
          show(tls);
          changed(new X509Certificate(tls.certificate).validTo);
        },
      }),
  };
}
