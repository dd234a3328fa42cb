import { base64, hex } from "@tutti/foundation/bytes";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { expect, test } from "vitest";
import { EVENTS } from "../../src/observe/events.ts";
import { type LogOptions, openLog } from "../../src/observe/log.ts";
import { redact } from "../../src/observe/redact.ts";
import { lineWriter } from "../../src/observe/stderr.ts";
import { TestClock } from "../drive/house.ts";

function listen(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const clock = new TestClock();
  return { log: openLog({ write: (line) => lines.push(line), clock, ...options }), lines, clock };
}
const parsed = (lines: readonly string[]) => lines.map((line) => JSON.parse(line));

test("a line is one JSON object with time, level and event first", () => {
  const { log, lines } = listen();
  log.of({ run: "abc" }).say("serve.started", { address: "h:1", port: 1, tls: true, absent: undefined });
  expect(lines).toHaveLength(1);
  expect(Object.keys(JSON.parse(lines[0]!))).toEqual([
    "at",
    "level",
    "event",
    "run",
    "address",
    "port",
    "tls",
  ]);
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: "info", event: "serve.started", run: "abc" });
});

test("no field takes the place of the head's", () => {
  const { log, lines } = listen();
  log.say("serve.started", { event: "other", level: "debug", at: "never" });
  expect(JSON.parse(lines[0]!)).toMatchObject({ level: "info", event: "serve.started" });
  expect(JSON.parse(lines[0]!).at).not.toBe("never");
});

test("for people: one line, whatever is in a field", () => {
  const { log, lines } = listen({ format: "text" });
  log.say("share.false", { device: "a\nlevel=info", doing: "unmasking" }, new Fault("refused", "a share"));
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatch(/^\S+Z warn {2}share\.false device="a\\nlevel=info" doing=unmasking code=refused/);
  expect(lines[0]).not.toContain("\n");
});

test("below its level nothing is said", () => {
  const { log, lines } = listen({ level: "warn" });
  log.say("serve.started");
  log.say("share.false");
  log.say("bug");
  expect(parsed(lines).map(({ event }) => event)).toEqual(["share.false", "bug"]);
});

test("of a fault its sentence and cause, of a bug its place", () => {
  const { log, lines } = listen();
  log.say("storage.failed", {}, new Fault("storage", "a disk", { cause: new Error("EIO") }));
  log.say("bug", {}, new TypeError("a slip"));
  const [fault, bug] = parsed(lines);
  expect(fault).toMatchObject({ code: "storage", error: "a disk", because: "EIO" });
  expect(fault.stack).toBeUndefined();
  expect(bug).toMatchObject({ code: "internal", error: "a slip" });
  expect(bug.stack).toContain("log.test");
});

test("a line that repeats is left out after ten in a minute, and counted once", () => {
  const { log, lines, clock } = listen();
  const fail = (doing: string) => log.say("storage.failed", { doing }, new Fault("storage", "a disk"));
  for (let time = 0; time < 50; time++) fail("writing");
  fail("reading");
  expect(lines).toHaveLength(11);
  clock.pass(60_000);
  fail("writing");
  expect(parsed(lines.slice(11))).toMatchObject([
    { event: "log.suppressed", of: "storage.failed", count: 40 },
    { event: "storage.failed", doing: "writing" },
  ]);
});

test("what is ordinary is not counted, however often it comes", () => {
  const { log, lines } = listen();
  for (let time = 0; time < 50; time++) log.say("run.taken");
  expect(lines).toHaveLength(50);
});

test("fields and texts are bounded; what is neither text, number nor truth is not printed", () => {
  const { log, lines } = listen();
  const many = Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`f${at}`, at]));
  log.say("bug", { ...many }, new Error("x".repeat(1_000_000)));
  log.say("bug", { bytes: new Uint8Array([1, 2, 3]) as unknown as string });
  for (const line of lines) expect(line.length).toBeLessThan(4_000);
  expect(JSON.parse(lines[1]!).bytes).toBe("[object]");
});

test("what may be secret in a text is cut", () => {
  const secret = platformRandom().bytes(32);
  const [asHex, asBase64] = [hex(secret), base64(secret)];
  const pem = `-----BEGIN PRIVATE KEY-----\n${asBase64}\n-----END PRIVATE KEY-----`;
  for (const text of [
    `connect postgres://tutti:hunter2@db.example.org:5432/tutti failed`,
    `password=hunter2 user=tutti`,
    `seed ${asHex} was refused`,
    `key ${asBase64} was refused`,
    pem,
  ]) {
    const cut = redact(text);
    expect(cut).not.toContain("hunter2");
    expect(cut).not.toContain(asHex.slice(0, 16));
    expect(cut).not.toContain(asBase64.slice(4, 20));
  }
  expect(redact("postgres://tutti:hunter2@db:5432/t")).toBe("postgres://tutti:…@db:5432/t");
  for (const plain of [
    "run abcdef012345",
    "/var/lib/tutti/federation/coordinator/artifacts",
    "ENOSPC: no space",
  ])
    expect(redact(plain)).toBe(plain);
});

test("every event says what it means", () => {
  for (const [, says] of Object.values(EVENTS)) expect(says.length).toBeGreaterThan(15);
});

test("a reader of stderr that stopped costs lines, never memory; it is told how many", () => {
  const stream = {
    writableLength: 0,
    got: [] as string[],
    write: (text: string) => stream.got.push(text) > 0,
  };
  const write = lineWriter(stream as unknown as NodeJS.WriteStream);
  write("one");
  stream.writableLength = 2 << 20;
  for (let time = 0; time < 1000; time++) write("lost");
  stream.writableLength = 0;
  write("two");
  expect(stream.got).toHaveLength(3);
  expect(JSON.parse(stream.got[1]!)).toMatchObject({ event: "log.lost", level: "warn", count: 1000 });
});
