import {
  type Metadata,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
  status as Status,
} from "@grpc/grpc-js";
import type { Clock } from "@tutti/foundation/clock";
import type { Observe } from "../observe/seen.ts";
import { Received } from "./intake.ts";

/** Tells of each call as it ends, however it ends. It holds nothing back and changes nothing. */
export function observing(clock: Clock, observe: Observe): ServerInterceptor {
  return (method, call) => {
    const [beganMs, since] = [clock.wallMs(), clock.nowMs()];
    let lastByte = since;
    let bytes = 0;
    let traceparent: string | undefined;
    let told = false;
    const tell = (code: number) => {
      if (told) return;
      told = true;
      const now = clock.nowMs();
      const name = method.path.slice(method.path.lastIndexOf("/") + 1);
      const took = { beganMs, ms: now - since, ackMs: now - lastByte };
      observe({ kind: "call", method: name, code: Status[code] ?? "UNKNOWN", ...took, bytes, traceparent });
    };
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata: Metadata, next) => {
        const [sent] = metadata.get("traceparent");
        traceparent = typeof sent === "string" ? sent : undefined;
        next(metadata);
      })
      .withOnReceiveMessage((message: unknown, next) => {
        if (message instanceof Received) bytes += message.bytes.length;
        lastByte = clock.nowMs();
        next(message);
      })
      .withOnCancel(() => tell(Status.CANCELLED))
      .build();
    const responder = new ResponderBuilder()
      .withStart((next) => next(listener))
      .withSendStatus((status, next) => {
        tell(status.code);
        next(status);
      })
      .build();
    return new ServerInterceptingCall(call, responder);
  };
}
