import type { Tracer } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { BatchSpanProcessor, type SpanExporter, TracerProvider } from "@opentelemetry/sdk-trace";
import { Fault } from "@tutti/foundation/fault";
import type { Log } from "./log.ts";

export type Otlp = { readonly tracer: Tracer; close(): Promise<void> };

const EXPORT_MS = 5_000;
const NAME = "tutti-coordinator";

/** Sends spans to a collector, in batches; what it does not take is counted in the log and given up. */
export function openOtlp(
  { endpoint }: { readonly endpoint: string },
  { log, federation }: { readonly log: Log; readonly federation: string },
): Otlp {
  const inner = new OTLPTraceExporter({ url: endpoint, timeoutMillis: EXPORT_MS });
  const exporter: SpanExporter = {
    export: (spans, done) =>
      inner.export(spans, (result) => {
        if (result.code !== 0) {
          const cause = result.error;
          const fault = new Fault("unavailable", "traces", {
            got: `${cause?.message ?? "no answer"}`,
            cause,
          });
          log.say("traces.lost", { count: spans.length }, fault);
        }
        done(result);
      }),
    shutdown: () => inner.shutdown(),
    forceFlush: () => inner.forceFlush(),
  };
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ "service.name": NAME, "tutti.federation": federation }),
    spanProcessors: [new BatchSpanProcessor({ exporter })],
  });
  return { tracer: provider.getTracer(NAME), close: () => provider.shutdown().catch(() => {}) };
}
