import { Fault } from "@tutti/foundation/fault";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { remembering } from "../../src/store/familiar.ts";
import type { Store } from "../../src/store/store.ts";
import { BENCHES, bytes, lead, type Place } from "./bench.ts";

const ward = { name: "ward-3", serial: bytes(9, 9), certificate: bytes(5, 6, 7) };
const renewed = { serial: bytes(8, 8), certificate: bytes(7, 7, 7) };

describe.each(BENCHES)("devices that are remembered, on $name", ({ fresh }) => {
  let place: Place;
  let under: Store;
  let store: Store;
  let reads: number;
  let meanwhile: () => Promise<unknown>;
  beforeEach(async () => {
    place = await fresh();
    under = await lead(await place.open());
    reads = 0;
    meanwhile = async () => {};
    store = remembering({
      ...under,
      async device(name) {
        reads++;
        const row = await under.device(name);
        await meanwhile();
        return row;
      },
    });
    await store.addDevice(ward);
  });
  afterEach(async () => {
    await under.close();
    await place.remove();
  });

  test("are read once, until they are renewed or revoked", async () => {
    for (let i = 0; i < 3; i++) expect((await store.device("ward-3"))?.certificate).toEqual(ward.certificate);
    expect(reads).toBe(1);
    await store.trust.renew("ward-3", renewed);
    expect((await store.device("ward-3"))?.certificate).toEqual(renewed.certificate);
    await store.trust.revoke("ward-3", null);
    expect((await store.device("ward-3"))?.revoked).toBe(true);
    expect(reads).toBe(3);
  });

  test("one that is not there is not remembered as absent", async () => {
    expect(await store.device("ward-4")).toBeUndefined();
    await store.addDevice({ ...ward, name: "ward-4", serial: bytes(1) });
    expect((await store.device("ward-4"))?.name).toBe("ward-4");
  });

  test("a row that was read while its device was revoked is not kept", async () => {
    meanwhile = () => store.trust.revoke("ward-3", null);
    expect((await store.device("ward-3"))?.revoked).toBe(false);
    meanwhile = async () => {};
    expect((await store.device("ward-3"))?.revoked).toBe(true);
  });

  test("a revocation that storage did not confirm may have happened: the row is read again", async () => {
    const broken = remembering({
      ...under,
      trust: {
        ...under.trust,
        async revoke(...asked) {
          await under.trust.revoke(...asked);
          throw new Error("the answer was lost");
        },
      },
    });
    expect((await broken.device("ward-3"))?.revoked).toBe(false);
    await expect(broken.trust.revoke("ward-3", null)).rejects.toThrow("lost");
    expect((await broken.device("ward-3"))?.revoked).toBe(true);
  });

  test("one that is durable only after its answer was lost: the row is read until then", async () => {
    const slow = remembering({
      ...under,
      trust: {
        ...under.trust,
        revoke: async () => {
          throw new Fault("unavailable", "a test", { got: "a lost connection" });
        },
      },
    });
    await expect(slow.trust.revoke("ward-3", null)).rejects.toThrow("lost");
    expect((await slow.device("ward-3"))?.revoked).toBe(false);
    await under.trust.revoke("ward-3", null);
    expect((await slow.device("ward-3"))?.revoked).toBe(true);
  });
});
