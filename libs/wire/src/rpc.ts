import type { DescMethod, DescService, MessageShape } from "@bufbuild/protobuf";

/** Largest single message; longer data travels in chunks (docs/reliability.md, Connections). */
export const MAX_MESSAGE_BYTES = 1 << 20;
/** Size of one chunk of an upload or a download. */
export const CHUNK_BYTES = 256 << 10;

/** Who sent a request, once its signature was checked; null for Hello and Enroll. */
export type Caller = {
  readonly name: string;
  readonly role: string;
  readonly labels: Readonly<Record<string, string>>;
};

/** What a handler knows of a call beside its message. */
export type Call = {
  readonly caller: Caller | null;
  readonly signal: AbortSignal;
  /** The key that the connection's TLS certificate proved, where the client showed one. */
  readonly peerKey?: Uint8Array | null;
};

type In<M extends DescMethod> = MessageShape<M["input"]>;
type Out<M extends DescMethod> = MessageShape<M["output"]>;

type ByKind<M extends DescMethod, Context extends readonly unknown[]> = M["methodKind"] extends "unary"
  ? (request: In<M>, ...context: Context) => Promise<Out<M>>
  : M["methodKind"] extends "server_streaming"
    ? (request: In<M>, ...context: Context) => AsyncIterable<Out<M>>
    : M["methodKind"] extends "client_streaming"
      ? (requests: AsyncIterable<In<M>>, ...context: Context) => Promise<Out<M>>
      : never;

/** A service as its server implements it: protocol-neutral, one function per method. */
export type Handlers<S extends DescService> = {
  readonly [K in keyof S["method"]]: ByKind<S["method"][K], [Call]>;
};

/** A service as its client calls it; a call without a signal runs until the link's own deadline. */
export type Stub<S extends DescService> = {
  readonly [K in keyof S["method"]]: ByKind<S["method"][K], [signal?: AbortSignal]>;
};

/** "/tutti.v1.Federation/Hello": the method's name on the wire, and in the signature over a request. */
export function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

export type { DescMethod, DescService };
