import {
  type Metadata,
  ResponderBuilder,
  ServerInterceptingCall,
  type ServerInterceptor,
  ServerListenerBuilder,
} from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";
import { type CallStatus, statusOf } from "./faults.ts";
import type { Watch } from "./stall.ts";

/** One message as it came: its bytes, and the handler's word that it has them. */
export class Received {
  readonly bytes: Uint8Array;
  readonly taken: Promise<void>;
  #take: () => void = () => {};

  constructor(buffer: Buffer) {
    // A plain view: a Buffer's `slice` shares memory where a Uint8Array's copies.
    this.bytes = new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
    this.taken = new Promise((resolve) => {
      this.#take = resolve;
    });
  }

  take(): void {
    this.#take();
  }
}

/**
 * Between the network and grpc-js's own stream, which would read 16 messages ahead. A message is handed on
 * when the one before it was taken; until then nothing more is read, and HTTP/2 flow control stops the
 * sender. While we wait for the sender, `watch` sees to it that it goes on sending.
 */
export function intake(watch: (peer: string, onStall: () => void) => Watch): ServerInterceptor {
  return (method, call) => {
    let before = Promise.resolve();
    // Messages that came and were not taken yet; the sender is only waited for at none.
    let held = 0;
    let count = 0;
    let over = false;
    let waiting: Watch | null = null;
    const stop = () => {
      waiting?.stop();
      waiting = null;
    };
    const wait = () => {
      stop();
      waiting = watch(call.getPeer(), () => call.sendStatus(stalled()));
    };
    const listener = new ServerListenerBuilder()
      .withOnReceiveMetadata((metadata: Metadata, next) => {
        wait();
        next(metadata);
      })
      .withOnReceiveMessage((message: Received, next) => {
        stop();
        // Of a second one nobody would ever take the first, and the call would not end.
        if (count++ > 0 && !method.requestStream) return call.sendStatus(oneTooMany());
        held += 1;
        const turn = before;
        before = message.taken;
        void turn.then(() => next(message));
        void message.taken.then(() => {
          held -= 1;
          if (held === 0 && !over) wait();
        });
      })
      .withOnReceiveHalfClose((next) => {
        over = true;
        stop();
        next();
      })
      .withOnCancel(() => {
        over = true;
        stop();
      })
      .build();
    const responder = new ResponderBuilder()
      .withStart((next) => next(listener))
      .withSendMetadata((metadata, next) => {
        // grpc-js offers compression that is refused at the door.
        metadata.set("grpc-accept-encoding", "identity");
        next(metadata);
      })
      .withSendStatus((status, next) => {
        over = true;
        stop();
        next(status);
      })
      .build();
    return new ServerInterceptingCall(call, responder);
  };
}

function oneTooMany(): CallStatus {
  return statusOf(new Fault("bad-message", "request", { expected: "one message", got: "more" }));
}

function stalled(): CallStatus {
  return statusOf(new Fault("deadline", "request", { expected: "at least 1 KiB a second", got: "a stall" }));
}
