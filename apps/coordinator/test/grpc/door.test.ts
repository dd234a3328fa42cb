import { Metadata } from "@grpc/grpc-js";
import { AUTHORIZATION } from "@tutti/wire/authorization";
import { Federation } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { afterEach, describe, expect, test, vi } from "vitest";
import { Raw } from "../../../../claims/support/chaos/raw.ts";
import { saidByGrpc } from "../../src/grpc/own-words.ts";
import { openWorld, type World } from "./harness.ts";

const { report } = Federation.method;

let world: World | undefined;
afterEach(async () => {
  await world?.close();
  world = undefined;
  vi.restoreAllMocks();
});

describe("headers that grpc-js cannot take, and would print", () => {
  test.each([
    [AUTHORIZATION, { [AUTHORIZATION]: "Tutti c2VjcmV0\u009b31m" }],
    ["x-odd", { "x-odd": `${"a".repeat(4_000)}\ta` }],
    ["traceparent", { traceparent: "caf\u00e9" }],
    ["name", { "x!odd": "a" }],
  ])("%s: the call is refused by name, and nobody prints or logs a word of it", async (name, headers) => {
    const printed = vi.spyOn(console, "error").mockImplementation(() => {});
    world = await openWorld({ report: async () => expect.unreachable() });
    const peer = new Raw(world.server.port, world.tls);
    const { fault } = await peer.call(pathOf(report), [new Uint8Array()], headers);
    expect(fault).toMatchObject({ code: "bad-message", detail: { got: "other characters" } });
    expect(fault?.what).toContain(name);
    expect(world.server.held().turned).toEqual(new Map([["malformed", 1]]));
    expect(printed).not.toHaveBeenCalled();
    expect(world.bugs).toEqual([]);
    peer.close();
  });
});

test("what grpc-js says by itself is a line of our log, without a value", async () => {
  const printed = vi.spyOn(console, "error").mockImplementation(() => {});
  world = await openWorld();
  Metadata.fromHttp2Headers({ secret: "a\u009b31m" });
  expect(printed).not.toHaveBeenCalled();
  expect(world.bugs).toMatchObject([{ code: "internal", message: "grpc-js: got Failed to add metadata" }]);
});

test.each([
  ["Failed to add metadata entry key: value", "Failed to add metadata"],
  ["Connection to 10.0.0.1:1 rejected", "Connection to"],
  ["2026-01-01 | trace", "a message"],
])("%s", (text, words) => expect(saidByGrpc(text).detail.got).toBe(words));
