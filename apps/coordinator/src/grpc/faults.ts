import { Metadata } from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";
import { FAULT_METADATA, faultBytes, grpcCodeOf } from "@tutti/wire/status";

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
  const code = error instanceof Fault ? error.code : "internal";
  if (error instanceof Fault && code !== "storage" && code !== "internal") return statusOf(error);
  onBug(error);
  const storage = new Fault("unavailable", "storage", { todo: "Send it again" });
  return statusOf(code === "storage" ? storage : new Fault("internal", "internal error"));
}
