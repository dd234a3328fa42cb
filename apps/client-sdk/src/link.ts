import type { Federation } from "@tutti/wire/round";
import type { Stub } from "@tutti/wire/rpc";
import type { Standing, TlsCertificates } from "@tutti/wire/standing";

/** The coordinator as a device sees it; node/grpc.ts is one, a simulation's in-process link another. */
export type Link = Stub<typeof Federation> & {
  /** Trust; absent of a link that has nothing to do with certificates. */
  readonly standing?: Stub<typeof Standing>;
  /** The TLS certificates that this link accepts, where it has any. */
  readonly pins?: Pins;
  close(): void;
};

/** Which TLS certificates a link accepts, by the newest list of them that was signed. */
export type Pins = {
  /** Of that list; 0 while there is only what the join file said. */
  readonly version: number;
  /** Keeps a newer list, and goes by it from the next connection on. `text` is its envelope. */
  renew(list: TlsCertificates, text: string): Promise<void>;
};
