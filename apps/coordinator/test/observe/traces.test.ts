import { createServer, type Server } from "node:http";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseConfig } from "../../src/folder/config.ts";
import { NO_LOG, openLog } from "../../src/observe/log.ts";
import { openOtlp } from "../../src/observe/otlp.ts";
import type { Seen } from "../../src/observe/seen.ts";
import { tracing } from "../../src/observe/traces.ts";
import { Watch } from "../../src/operate/watch.ts";
import { TestClock } from "../drive/house.ts";

type SpanSent = {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly endTimeUnixNano: string;
  readonly attributes: readonly { key: string; value: Record<string, unknown> }[];
  readonly status?: { code?: number };
};

/** A collector as small as can be: OTLP over HTTP, JSON. */
let collector: Server;
let endpoint: string;
let sent: SpanSent[];
let answers = 200;
let requests = 0;
beforeEach(async () => {
  sent = [];
  requests = 0;
  answers = 200;
  collector = createServer(async (request, response) => {
    requests += 1;
    let body = "";
    for await (const chunk of request) body += chunk;
    for (const { scopeSpans } of JSON.parse(body).resourceSpans)
      for (const { spans } of scopeSpans) sent.push(...spans);
    response.writeHead(answers, { "content-type": "application/json" }).end("{}");
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  endpoint = `http://127.0.0.1:${(collector.address() as { port: number }).port}/v1/traces`;
});
afterEach(() => {
  collector.closeAllConnections();
  return new Promise((resolve) => collector.close(resolve));
});

/** A time of our days: the library takes a small number for one since the process began. */
const AT = 1_790_000_000_000;
const which = { run: "ab".repeat(32), round: 3, attempt: 0 };
const CALL = {
  kind: "call",
  method: "Upload",
  code: "OK",
  beganMs: AT,
  ms: 5,
  ackMs: 1,
  bytes: 9,
} as const;
const SEEN: readonly Seen[] = [
  {
    kind: "stored",
    operation: "store.commit",
    run: which.run,
    entries: 4,
    beganMs: AT + 100,
    ms: 2,
    ok: true,
  },
  { kind: "phase", phase: "training", attemptBeganMs: AT, beganMs: AT, ms: 500, ...which },
  { kind: "phase", phase: "unmasking", attemptBeganMs: AT, beganMs: AT + 500, ms: 100, ...which },
  { kind: "attempt", outcome: "published", devices: 7, reason: "", beganMs: AT, ms: 600, ...which },
  { ...CALL, traceparent: `00-${"1f".repeat(16)}-${"2e".repeat(8)}-01` },
  { ...CALL, method: "Hello", code: "UNAVAILABLE", traceparent: "00-nonsense" },
];

test("a round is one trace, with its phases and transactions; a request is in its caller's", async () => {
  const { tracer, close } = openOtlp({ endpoint }, { log: NO_LOG, federation: "f" });
  const observe = tracing(tracer);
  for (const seen of SEEN) observe(seen);
  await close();
  const named = (name: string) => sent.filter((span) => span.name === name)[0]!;
  const round = named("round");
  for (const name of ["store.commit", "training", "unmasking"]) {
    expect(named(name)).toMatchObject({ traceId: round.traceId, parentSpanId: round.spanId });
  }
  expect(round.parentSpanId ?? "").toBe("");
  const took = BigInt(named("training").endTimeUnixNano) - BigInt(named("training").startTimeUnixNano);
  expect(took).toBe(500_000_000n);
  const told = Object.fromEntries(round.attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
  expect(told).toEqual({
    "tutti.run": "abababababab",
    "tutti.round": 3,
    "tutti.attempt": 0,
    "tutti.outcome": "published",
    "tutti.devices": 7,
  });
  expect(named("rpc Upload")).toMatchObject({ traceId: "1f".repeat(16), parentSpanId: "2e".repeat(8) });
  expect(named("rpc Hello").parentSpanId ?? "").toBe("");
  expect(named("rpc Hello").status).toMatchObject({ code: 2 });
});

test("a collector that takes nothing is told in the log, and nothing fails for it", async () => {
  answers = 400;
  const lines: string[] = [];
  const log = openLog({ write: (line) => lines.push(line), clock: new TestClock() });
  const { tracer, close } = openOtlp({ endpoint }, { log, federation: "f" });
  const observe = tracing(tracer);
  for (const seen of SEEN) observe(seen);
  await close();
  expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ event: "traces.lost", count: 6 }]);
});

test("without a section nothing is sent, with one it is", async () => {
  const least = { version: 1, name: "f", host: "h", port: 1, listen: { host: "h", port: 1 } };
  const clock = new TestClock();
  for (const [more, expected] of [
    [{}, 0],
    [{ tracing: { endpoint } }, 1],
  ] as const) {
    const config = parseConfig(JSON.stringify({ ...least, ...more }));
    const watch = await Watch.open({ clock, log: NO_LOG, config });
    for (const seen of SEEN) watch.observe(seen);
    await watch.close();
    expect(requests).toBe(expected);
  }
});
