import { status } from "@grpc/grpc-js";
import { Fault, type FaultCode } from "@tutti/foundation/fault";
import { faultBytes, faultFromGrpc, grpcCodeOf, MAX_RETRY_AFTER_MS } from "@tutti/wire/status";
import fc from "fast-check";
import { describe, expect, test } from "vitest";

const NAMES: Record<FaultCode, keyof typeof status> = {
  "bad-input": "INVALID_ARGUMENT",
  "bad-message": "INVALID_ARGUMENT",
  unsupported: "UNIMPLEMENTED",
  refused: "PERMISSION_DENIED",
  "not-found": "NOT_FOUND",
  conflict: "ABORTED",
  unavailable: "UNAVAILABLE",
  deadline: "DEADLINE_EXCEEDED",
  "below-threshold": "FAILED_PRECONDITION",
  failed: "FAILED_PRECONDITION",
  cancelled: "CANCELLED",
  storage: "UNKNOWN",
  internal: "INTERNAL",
};
/** Codes that share a status with another, or whose status grpc-js says of other things too. */
const BARE: Partial<Record<FaultCode, FaultCode>> = {
  "bad-message": "bad-input",
  failed: "below-threshold",
  internal: "unavailable",
};
const codes = Object.keys(NAMES) as FaultCode[];

describe("Fault ↔ gRPC status", () => {
  test("numbers are grpc-js's own", () => {
    for (const code of codes) expect(grpcCodeOf(code)).toBe(status[NAMES[code]]);
  });

  test("a Fault that travels comes back; without its bytes, as the nearest code", () => {
    const detail = fc.record(
      {
        expected: fc.string(),
        got: fc.string(),
        todo: fc.string(),
        retryAfterMs: fc.nat(MAX_RETRY_AFTER_MS),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.constantFrom(...codes), fc.string(), detail, (code, what, parts) => {
        const sent = new Fault(code, what, { ...parts, cause: new Error("secret") });
        const bytes = faultBytes(sent);
        expect(new TextDecoder().decode(bytes)).not.toContain("secret");
        const back = faultFromGrpc({ code: 13, details: "", fault: bytes });
        expect([back.code, back.what, back.detail]).toEqual([code, what, parts]);
        const bare = faultFromGrpc({ code: grpcCodeOf(code), details: "sentence" });
        expect(bare.code).toBe(BARE[code] ?? code);
        expect(bare.message).toBe("sentence");
      }),
    );
  });

  test.each([
    ["0.030s,name resolution: 0.002s,Waiting for LB pick", "h:1", "a connection within 30 ms", false],
    ["0.000s,waiting for name resolution", "h:1", "a connection within 1 ms", false],
    ["0.999s,LB pick: 0.1s,remote_addr=10.0.0.1:7", "10.0.0.1:7", "an answer within 999 ms", true],
    ["20.004s,previous attempts: 1,Waiting for LB pick", "h:1", "an answer within 20 s", true],
  ])("a deadline after %s", (details, at, expected, mayBeDone) => {
    const fault = faultFromGrpc({ code: 4, details: `Deadline exceeded after ${details}`, address: "h:1" });
    expect(fault).toMatchObject({ what: `coordinator at ${at}`, detail: { expected, got: "none" } });
    expect(fault.message.includes("What was asked for may have been done")).toBe(mayBeDone);
  });

  test("every status that gRPC knows becomes a Fault", () => {
    for (let code = 0; code < 20; code++) expect(faultFromGrpc({ code, details: "" })).toBeInstanceOf(Fault);
  });

  test("bytes of another party that are no Fault are ignored", () => {
    const junk = fc.oneof(
      fc.uint8Array(),
      fc.json().map((text) => new TextEncoder().encode(text)),
    );
    fc.assert(
      fc.property(junk, (fault) => {
        expect(faultFromGrpc({ code: 7, details: "no", fault })).toMatchObject({
          code: "refused",
          what: "no",
        });
      }),
    );
    const forged = new TextEncoder().encode('{"code":"__proto__","what":"x"}');
    expect(faultFromGrpc({ code: 5, details: "gone", fault: forged }).code).toBe("not-found");
  });

  test("nobody is sent away for longer than the limit, or to the past", () => {
    for (const retryAfterMs of [-1, MAX_RETRY_AFTER_MS + 1, "5", null, 1e308]) {
      const fault = new TextEncoder().encode(
        JSON.stringify({ code: "unavailable", what: "x", retryAfterMs }),
      );
      expect(faultFromGrpc({ code: 14, details: "", fault }).detail).toEqual({});
    }
  });

  test("a very long sentence is clipped, so that it fits a header", () => {
    const long = "ü".repeat(100_000);
    const bytes = faultBytes(new Fault("refused", long, { expected: long, got: long, todo: long }));
    expect(bytes.length).toBeLessThan(8192);
    expect(faultFromGrpc({ code: 7, details: "", fault: bytes }).what).toMatch(/^ü{500}…$/);
  });
});
