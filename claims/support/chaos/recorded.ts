import type { Link } from "@tutti/client-sdk/link";
import { type DescMessage, encode, type MessageShape } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";

/** A request as it left a real device: its method, and the bytes of its messages. */
export type Recorded = { readonly path: string; readonly messages: readonly Uint8Array[] };

type Message = MessageShape<DescMessage>;

/** The same link; every request that leaves by it is written down first. */
export function recording(link: Link, keep: (request: Recorded) => void): Link {
  const own: Record<string, unknown> = { ...link };
  for (const method of Federation.methods) {
    const call = own[method.localName] as (request: unknown, signal?: AbortSignal) => unknown;
    const path = pathOf(method);
    own[method.localName] = (request: unknown, signal?: AbortSignal) => {
      if (method.methodKind !== "client_streaming") {
        keep({ path, messages: [encode(method.input, request as Message)] });
        return call(request, signal);
      }
      return walked(request as AsyncIterable<Message>).then((parts) => {
        keep({ path, messages: parts.map((part) => encode(method.input, part)) });
        return call(request, signal);
      });
    };
  }
  // Each function above takes and gives what the one that it stands for does.
  return own as unknown as Link;
}

/** Uploads can be walked more than once. */
async function walked(parts: AsyncIterable<Message>): Promise<Message[]> {
  const all: Message[] = [];
  for await (const part of parts) all.push(part);
  return all;
}
