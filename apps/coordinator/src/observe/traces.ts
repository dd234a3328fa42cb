import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { unreachable } from "@tutti/foundation/check";
import type { Observe, Seen } from "./seen.ts";

type Of<K extends Seen["kind"]> = Extract<Seen, { kind: K }>;

/**
 * What is seen as spans: an attempt of a round with its phases and transactions in it, and each request, in
 * the caller's own trace where it sends one. A span is told when it is over.
 */
export function tracing(tracer: Tracer): Observe {
  /** Of each run the attempt in progress. */
  const attempts = new Map<string, Span>();
  const inAttempt = (run: string, startTime: number): Context => {
    const open = attempts.get(run) ?? tracer.startSpan("round", { startTime, root: true }, ROOT_CONTEXT);
    attempts.set(run, open);
    return trace.setSpan(ROOT_CONTEXT, open);
  };
  return (seen) => {
    switch (seen.kind) {
      case "phase":
        return tellPhase(tracer, seen, inAttempt(seen.run, seen.attemptBeganMs));
      case "attempt":
        inAttempt(seen.run, seen.beganMs);
        endAttempt(attempts.get(seen.run)!, seen);
        attempts.delete(seen.run);
        return;
      case "run":
        attempts.get(seen.run)?.end();
        attempts.delete(seen.run);
        return;
      case "call":
        return tellCall(tracer, seen);
      case "stored":
        if (seen.run !== undefined) tellStored(tracer, seen, inAttempt(seen.run, seen.beganMs));
        return;
      default:
        unreachable(seen);
    }
  };
}

/** A run's id by its first digits, as in the log. */
const SHOWN = 12;

function tellPhase(tracer: Tracer, { phase, beganMs, ms, round }: Of<"phase">, within: Context): void {
  const attributes = { "tutti.round": round };
  tracer.startSpan(phase || "between", { startTime: beganMs, attributes }, within).end(beganMs + ms);
}

function endAttempt(
  span: Span,
  { run, round, attempt, outcome, devices, reason, beganMs, ms }: Of<"attempt">,
): void {
  span.setAttributes({
    "tutti.run": run.slice(0, SHOWN),
    "tutti.round": round,
    "tutti.attempt": attempt,
    "tutti.outcome": outcome,
    "tutti.devices": devices,
  });
  if (outcome === "failed") span.setStatus({ code: SpanStatusCode.ERROR, message: reason.slice(0, 200) });
  span.end(beganMs + ms);
}

function tellCall(tracer: Tracer, { method, code, bytes, beganMs, ms, traceparent }: Of<"call">): void {
  const attributes = {
    "rpc.system": "grpc",
    "rpc.method": method,
    "tutti.code": code,
    "tutti.received_bytes": bytes,
  };
  const within = contextOf(traceparent);
  const options = { startTime: beganMs, kind: SpanKind.SERVER, attributes };
  const span = tracer.startSpan(`rpc ${method}`, options, within);
  if (code !== "OK") span.setStatus({ code: SpanStatusCode.ERROR, message: code });
  span.end(beganMs + ms);
}

function tellStored(
  tracer: Tracer,
  { operation, entries, beganMs, ms, ok }: Of<"stored">,
  within: Context,
): void {
  const attributes = { "tutti.entries": entries };
  const span = tracer.startSpan(operation, { startTime: beganMs, attributes }, within);
  if (!ok) span.setStatus({ code: SpanStatusCode.ERROR });
  span.end(beganMs + ms);
}

/** W3C Trace Context, section 3.2: version 00, and neither id all zeros. */
const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$/;

function contextOf(traceparent: string | undefined): Context {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? "") ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return ROOT_CONTEXT;
  const traceFlags = Number.parseInt(flags, 16) & 1;
  return trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true });
}
