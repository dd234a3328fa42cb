import { describe, expect, test } from "vitest";
import { type ConfigInput, configText, parseConfig } from "../../src/folder/config.ts";
import { unreadable } from "../../src/folder/layout.ts";
import { LIMITS } from "../../src/grpc/limits.ts";

const least = {
  version: 1,
  name: "hearts",
  host: "fl.example.org",
  port: 7443,
  listen: { host: "0.0.0.0", port: 7443 },
} as const;

const parse = (more: Record<string, unknown> = {}) => parseConfig(JSON.stringify({ ...least, ...more }));

describe("tutti.json", () => {
  test("what `tutti init` writes is enough; the rest has defaults", () => {
    expect(parse()).toEqual({
      ...least,
      addresses: [],
      store: { engine: "sqlite" },
      artifacts: {},
      retention: {},
      log: { level: "info" },
      limits: LIMITS,
      identity: { clientCertificates: "off", renewalGraceDays: 30 },
    });
  });

  test("defaults stay out of the file", () => {
    expect(JSON.parse(configText(least))).toEqual(least);
    const more: ConfigInput = { ...least, operations: {} };
    expect(parseConfig(configText(more)).operations).toEqual({ host: "127.0.0.1", port: 9464 });
  });

  test("every section at once", () => {
    const whole = {
      addresses: ["two.example.org:7443", "[2001:db8::1]:7443"],
      store: { engine: "postgres", urlFile: "/run/secrets/store", poolSize: 4 },
      artifacts: {
        s3: {
          endpoint: "https://s3.example.org",
          bucket: "b",
          region: "r",
          credentialsFile: "/run/secrets/s3",
          cacheBytes: 1 << 30,
        },
      },
      retention: { rounds: 100, releases: 1000 },
      operations: { host: "::1", port: 0 },
      log: { level: "debug", format: "text" },
      tracing: { endpoint: "http://127.0.0.1:4318/v1/traces" },
      limits: { ...LIMITS, connections: 5, connectionsPerDevice: 1, uploadBytes: 1 << 20 },
      identity: { clientCertificates: "required", devicesPerSite: 3, renewalGraceDays: 7 },
    };
    expect(parse(whole)).toEqual({ ...least, ...whole });
  });

  test.each<[string, Record<string, unknown>, string]>([
    [
      "a misspelt section",
      { operation: {} },
      'tutti.json: operation: expected no such field, got "operation". Did you mean operations?',
    ],
    ["a misspelt field", { limits: { conections: 1 } }, "Did you mean connections?"],
    ["swapped letters", { log: { levle: "info" } }, "Did you mean level?"],
    ["a field of nothing like it", { log: { colour: 1 } }, "Known here: level, format"],
    [
      "another engine's field",
      { store: { engine: "sqlite", url: "postgres://h/d" } },
      "store.url: expected no such field",
    ],
    [
      "an engine that is none",
      { store: { engine: "mysql" } },
      'store.engine: expected ("sqlite" | "postgres"), got "mysql"',
    ],
    [
      "two places for a secret",
      { store: { engine: "postgres", url: "postgres://h/d", urlFile: "f" } },
      "either url or urlFile",
    ],
    ["no place for it", { store: { engine: "postgres" } }, "either url or urlFile"],
    [
      "two places for artifacts",
      {
        artifacts: {
          folder: "f",
          s3: { endpoint: "https://h", bucket: "b", region: "r", credentialsFile: "c" },
        },
      },
      "either folder or s3",
    ],
    [
      "a port too large",
      { operations: { port: 65_536 } },
      "operations.port: expected an integer in 0..65535, got 65536",
    ],
    ["a port as text", { operations: { port: "9464" } }, 'expected an integer in 0..65535, got "9464"'],
    ["a level that is none", { log: { level: "loud" } }, "log.level"],
    ["an endpoint that is none", { tracing: { endpoint: "collector:4318" } }, "a URL that begins http://"],
    ["an address without a port", { addresses: ["a.example.org"] }, 'addresses.0: expected a "host:port"'],
    ["an address of a port 0", { addresses: ["a.example.org:0"] }, "addresses.0"],
    ["an IPv6 address without brackets", { addresses: ["2001:db8::1:7443"] }, "addresses.0"],
    ["a list for a section", { log: [{}] }, "tutti.json: log.0"],
    [
      "a host with a space",
      { operations: { host: "no host" } },
      "operations.host: expected a host name or IP address",
    ],
  ])("%s is refused by name", (_name, more, sentence) => {
    expect(() => parse(more)).toThrow(sentence);
  });

  test("a URL that may hold a password is not quoted", () => {
    const wrong = { store: { engine: "postgres", url: "mysql://tutti:hunter2@h/d" } };
    expect(() => parse(wrong)).toThrow(/store\.url: expected a URL that begins postgres/);
    expect(() => parse(wrong)).not.toThrow(/hunter2/);
  });
});

test.each([
  ["", 1],
  ["{", 1],
  ['{\n  "version": 1,\n  "name": "f" "host": 3\n}\n', 3],
  ['{\n  "version": 1,\n  "store": { "url": "postgres://u:secret@h" \n}\n', 5],
  ["{\n  version: 1\n}\n", 2],
  ['{ "name":\n "f\n" }', 2],
  ["not JSON at all", 1],
])("what is no JSON is told by its line, and not shown: %j", (text, line) => {
  const fault = (() => {
    try {
      return parseConfig(text, "f/tutti.json");
    } catch (error) {
      return error as Error;
    }
  })() as Error;
  const todo = "Correct it there, or take the file from a copy";
  expect(fault.message).toBe(`f/tutti.json: expected JSON, got other text in line ${line}. ${todo}`);
});

test("a file that this user may not read comes with who may", () => {
  expect(unreadable("f/tutti.json", "EACCES")).toMatchObject({
    code: "refused",
    message: expect.stringContaining("Run this as the user that owns the folder"),
  });
  expect(unreadable("f/tutti.json", "EIO").code).toBe("storage");
});
