import { Metadata } from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";
import { FAULT_METADATA, faultBytes, GRPC_INTERNAL, grpcCodeOf } from "@tutti/wire/status";

/** What ends a call. */
export type CallStatus = {
  readonly code: number;
  readonly details: string;
  readonly metadata: Metadata;
};

/** A Fault as the status that ends a call; it travels whole in the trailers. */
export function statusOf(fault: Fault): CallStatus {
  const metadata = new Metadata();
  metadata.set(FAULT_METADATA, Buffer.from(faultBytes(fault)));
  // The message is only for other clients; grpc-js percent-encodes it and cannot encode a lone surrogate.
  const details = fault.message.slice(0, 500).replace(/[^\x20-\x7e]/g, "?");
  return { code: grpcCodeOf(fault.code), details, metadata };
}

/**
 * Whatever a handler threw, as the status that ends its call. Storage says "unknown": the sender is to ask
 * again.
 * A bug is reported here and not to the caller, who might learn from its message what it must not.
 */
export function statusOfError(error: unknown, onBug: (error: unknown) => void): CallStatus {
  if (error instanceof Fault && error.code !== "storage") return statusOf(error);
  onBug(error);
  if (error instanceof Fault) return statusOf(new Fault("unavailable", "storage", { todo: "Send it again" }));
  return { code: GRPC_INTERNAL, details: "internal error", metadata: new Metadata() };
}
