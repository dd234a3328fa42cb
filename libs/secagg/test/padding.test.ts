import type { MessageShape } from "@tutti/wire/message";
import { create } from "@tutti/wire/message";
import { EnvelopeSchema, type ShareRequestSchema } from "@tutti/wire/secagg";
import { describe, expect, test } from "vitest";
import { advertise } from "../src/device/advertise.ts";
import { share } from "../src/device/share.ts";
import { receive } from "../src/server/session.ts";
import { begin, memberOf, terms, upTo, wordAs } from "./federation.ts";

// A member that pads its own message would make everybody's next word too long to travel.

type ShareRequest = MessageShape<typeof ShareRequestSchema>;

function pad(message: { $unknown?: unknown }, bytes: number): void {
  message.$unknown = [{ no: 999, wireType: 2, data: padding(bytes) }];
}

/** As protobuf-es holds an unknown field: its length, then its bytes. */
function padding(bytes: number): Uint8Array {
  return Uint8Array.of((bytes & 0x7f) | 0x80, bytes >> 7, ...new Uint8Array(bytes));
}

describe("stage 0", () => {
  test("an advertisement above 8 KiB is refused, whatever makes it long, and nothing changes", () => {
    const play = begin(3);
    const { message } = advertise(terms(), memberOf("d00"));
    pad(message, 9_000);
    expect(() => receive(play.session, "d00", { stage: "advertise", advertisement: message })).toThrow(
      /keys of d00: expected at most 8192 bytes, got 9\d\d\d/,
    );
    pad(message, 200);
    expect(receive(play.session, "d00", { stage: "advertise", advertisement: message }).advertised.size).toBe(
      1,
    );
  });
});

describe("stage 1", () => {
  async function refusal(change: (request: ShareRequest) => void): Promise<string> {
    const play = await upTo("share", 3);
    const { message } = await share(play.states.get("d00")!, wordAs(play, "d00", "roster"));
    change(message);
    try {
      receive(play.session, "d00", { stage: "share", request: message });
      return "accepted";
    } catch (error) {
      return (error as Error).message;
    }
  }

  test("an envelope above 400 bytes is refused", async () => {
    expect(await refusal(({ envelopes }) => pad(envelopes[1]!, 1_100))).toMatch(
      "envelopes of at most 400 bytes",
    );
    expect(await refusal(() => {})).toBe("accepted");
  });

  test("two envelopes to one member, or more than there are members, are refused", async () => {
    const extra = (to: string) => create(EnvelopeSchema, { from: "d00", to, sealed: new Uint8Array(10) });
    expect(await refusal(({ envelopes }) => envelopes.splice(2, 1, extra("d01")))).toMatch(
      "one to each holder",
    );
    expect(await refusal(({ envelopes }) => envelopes.push(extra("d01")))).toMatch(
      "expected 3 envelopes, got 4",
    );
  });
});
