import { Fault } from "@tutti/foundation/fault";
import { sha256Hex } from "@tutti/foundation/hash";
import { seededRandom } from "@tutti/foundation/random";
import { AckSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { type UploadPart, UploadStatusReplySchema } from "@tutti/wire/secagg";
import fc from "fast-check";
import { expect, test } from "vitest";
import { uploader } from "../src/upload.ts";

const session = new Uint8Array(32);
const { signal } = new AbortController();
const unavailable = () => new Fault("unavailable", "line");

/** A coordinator that keeps what came, behind a line that is cut after so many bytes, time after time. */
function far(cuts: number[], { keeps = true } = {}) {
  const all = { came: [] as Uint8Array[], sent: 0, calls: 0, asked: 0 };
  const length = () => all.came.reduce((sum, { length }) => sum + length, 0);
  return {
    all,
    link: {
      async upload(parts: AsyncIterable<UploadPart>) {
        all.calls++;
        let left = cuts.shift() ?? Number.POSITIVE_INFINITY;
        for await (const { part } of parts) {
          if (part.case === "header") {
            if (part.value.offset === 0) all.came = [];
            else expect(part.value.offset).toBe(length());
            continue;
          }
          all.sent += part.value!.length;
          left -= part.value!.length;
          if (left < 0) throw unavailable();
          all.came.push(part.value as Uint8Array);
        }
        return create(AckSchema);
      },
      async uploadStatus() {
        all.asked++;
        if (!keeps) throw new Fault("unsupported", "UploadStatus");
        return create(UploadStatusReplySchema, { heldBytes: length() });
      },
    },
  };
}

function way() {
  const shares: number[] = [];
  const slept: number[] = [];
  // Sleeps of an upload in progress are for asking, and end with it.
  const clock = {
    nowMs: () => 0,
    wallMs: () => 0,
    turn: async () => {},
    sleep: (ms: number, until?: AbortSignal) =>
      until === signal ? Promise.resolve(void slept.push(ms)) : new Promise<void>(() => {}),
  };
  const patience = { clock, jitter: seededRandom("upload") };
  return { shares, slept, way: { patience, onProgress: (share: number) => void shares.push(share) } };
}

test("an upload that is cut goes on behind what came; a chunk a cut is sent twice, and no more", async () => {
  const cut = fc.integer({ min: 66_000, max: 400_000 });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 900_000 }),
      fc.array(cut, { maxLength: 5 }),
      async (bytes, cuts) => {
        const packed = Uint8Array.from({ length: bytes }, (_, at) => (at * 31) >> (at & 7));
        const { link, all } = far([...cuts]);
        const { way: how, shares, slept } = way();
        await uploader(session, packed)(link, signal, how);
        expect(sha256Hex(Buffer.concat(all.came))).toBe(sha256Hex(packed));
        expect(all.sent - bytes).toBeLessThanOrEqual((all.calls - 1) * (64 << 10));
        expect(shares).toEqual([...shares].sort((a, b) => a - b));
        expect(slept.every((ms) => ms <= 200)).toBe(true);
      },
    ),
    { numRuns: 50 },
  );
});

test("a try that gets no further is the caller's to repeat, and goes on then", async () => {
  const packed = new Uint8Array(200_000);
  const { link, all } = far([70_000, 0]);
  const { way: how } = way();
  const send = uploader(session, packed);
  await expect(send(link, signal, how)).rejects.toMatchObject({ code: "unavailable" });
  await send(link, signal, how);
  expect(all.sent).toBeLessThanOrEqual(packed.length + 2 * (64 << 10));
});

test("who is turned away waits as long as it was told to, once", async () => {
  const { way: how, slept } = way();
  const full = new Fault("unavailable", "upload", { retryAfterMs: 700 });
  const link = { upload: async () => Promise.reject(full), uploadStatus: async () => Promise.reject(full) };
  await expect(uploader(session, new Uint8Array(9))(link, signal, how)).rejects.toBe(full);
  expect(slept).toEqual([]);
});

test("a coordinator that takes uploads as a whole gets them as a whole", async () => {
  const packed = new Uint8Array(200_000);
  const { link, all } = far([70_000], { keeps: false });
  const { way: how } = way();
  const send = uploader(session, packed);
  await expect(send(link, signal, how)).rejects.toMatchObject({ code: "unavailable" });
  await send(link, signal, how);
  expect(Buffer.concat(all.came).length).toBe(packed.length);
});

/** A coordinator that takes nothing, and says that it holds so much more each time it is asked. */
function growing(byBytes: number) {
  const all = { calls: 0, held: 0 };
  const link = {
    upload: async () => {
      if (++all.calls > 1_000) throw new Error("sent for ever");
      throw unavailable();
    },
    uploadStatus: async () => {
      all.held += byBytes;
      return create(UploadStatusReplySchema, { heldBytes: all.held });
    },
  };
  return { all, link };
}

test("a coordinator that claims to hold more than there is is refused", async () => {
  const { all, link } = growing(150_000);
  const { way: how, shares } = way();
  const sending = uploader(session, new Uint8Array(200_000))(link, signal, how);
  await expect(sending).rejects.toMatchObject({ code: "bad-message", what: "upload status" });
  expect([all.calls, shares]).toEqual([2, [0.75]]);
});

test("one that holds a byte more each time is not sent to at once each time", async () => {
  const { all, link } = growing(1);
  const { way: how } = way();
  const send = uploader(session, new Uint8Array(200_000));
  for (let times = 1; times <= 3; times++) {
    await expect(send(link, signal, how)).rejects.toMatchObject({ code: "unavailable" });
    expect(all.calls).toBe(times);
  }
});

test("one that holds everything and still cuts is not sent to for ever", async () => {
  const { all, link } = growing(0);
  all.held = 200_000;
  const { way: how } = way();
  const send = uploader(session, new Uint8Array(200_000));
  await expect(send(link, signal, how)).rejects.toMatchObject({ code: "unavailable" });
  expect(all.calls).toBe(2);
});

test("a refusal is no cut", async () => {
  const { way: how, slept } = way();
  const no = new Fault("conflict", "upload");
  const link = { upload: async () => Promise.reject(no), uploadStatus: async () => Promise.reject(no) };
  await expect(uploader(session, new Uint8Array(9))(link, signal, how)).rejects.toBe(no);
  expect(slept).toEqual([]);
});
