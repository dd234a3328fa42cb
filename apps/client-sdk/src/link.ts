import type { Federation } from "@tutti/wire/round";
import type { Stub } from "@tutti/wire/rpc";

/** The coordinator as a device sees it; node/grpc.ts is one, a simulation's in-process link another. */
export type Link = Stub<typeof Federation> & {
  close(): void;
};
