import { Readable } from "node:stream";
import { type Client, Metadata } from "@grpc/grpc-js";
import { Fault } from "@tutti/foundation/fault";
import { create, encode } from "@tutti/wire/message";
import { Federation, ListenRequestSchema } from "@tutti/wire/round";
import { FAULT_METADATA, faultBytes } from "@tutti/wire/status";
import { expect, test } from "vitest";
import { down } from "../../src/node/calls.ts";

/** What a stream that ends with a gRPC status throws. */
async function endOf(method: "listen" | "fetch", code: number, fault?: Fault): Promise<Fault> {
  const metadata = new Metadata();
  if (fault) metadata.set(FAULT_METADATA, Buffer.from(faultBytes(fault)));
  const error = Object.assign(new Error("status"), { code, details: "from gRPC itself", metadata });
  const stream = new Readable({ objectMode: true, read: () => stream.destroy(error) });
  const client = {
    makeServerStreamRequest: () => Object.assign(stream, { cancel: () => {} }),
    getChannel: () => ({ getTarget: () => "dns:h:1" }),
  };
  const out = {
    client: client as unknown as Client,
    method: Federation.method[method],
    metadata: new Metadata(),
  };
  const words = down(out, encode(ListenRequestSchema, create(ListenRequestSchema)));
  return await words.next().then(
    () => expect.unreachable(),
    (thrown: Fault) => thrown,
  );
}

test("a Listen stream that gRPC or a proxy ends may be tried again, whatever the status", async () => {
  for (let code = 1; code <= 16; code++) expect((await endOf("listen", code)).code).toBe("unavailable");
  // RESOURCE_EXHAUSTED: a download that is too long would be so again.
  expect((await endOf("fetch", 8)).code).toBe("bad-message");
});

test("one that the coordinator refused says why", async () => {
  const no = new Fault("refused", "d00", { got: "revoked" });
  expect(await endOf("listen", 7, no)).toMatchObject({ code: "refused", message: "d00: got revoked" });
});
