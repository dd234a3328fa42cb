import { newTls } from "@tutti/coordinator/folder/tls";
import { serveGrpc } from "@tutti/coordinator/grpc/serve";
import { platformRandom } from "@tutti/foundation/random";
import { newSeed, signingKey } from "@tutti/identity/keys";
import { HelloReplySchema, HelloRequestSchema } from "@tutti/wire/device";
import { create } from "@tutti/wire/message";
import { Federation } from "@tutti/wire/round";
import type { Handlers } from "@tutti/wire/rpc";
import { VERSION } from "@tutti/wire/version";
import { expect, test } from "vitest";
import { freePort } from "../../../../claims/support/free-port.ts";
import { connect } from "../../src/node/grpc.ts";

test("a coordinator that was away is dialled whenever it is greeted, however often in vain", async () => {
  const port = await freePort();
  const tls = await newTls({ name: "test", host: "127.0.0.1", nowMs: Date.now() });
  const key = signingKey(newSeed(platformRandom()));
  const link = connect({ address: `127.0.0.1:${port}`, tls: tls.certificate, name: "ann", key });
  const greet = () => link.hello(create(HelloRequestSchema, { version: VERSION }));
  // gRPC by itself would not dial again for some five seconds after so many.
  for (let tries = 0; tries < 12; tries++)
    await expect(greet()).rejects.toMatchObject({ code: "unavailable" });
  const hello = async () =>
    create(HelloReplySchema, { session: new Uint8Array(16), nowMs: 1, version: VERSION });
  const server = await serveGrpc({
    host: "127.0.0.1",
    port,
    tls,
    services: [{ service: Federation, handlers: { hello, ...unused() } }],
    authenticate: async () => null,
    onBug: () => {},
  });
  try {
    expect((await greet()).version).toBe(VERSION);
  } finally {
    link.close();
    await server.close();
  }
});

/** What nobody calls here. */
function unused(): Omit<Handlers<typeof Federation>, "hello"> {
  const names = Federation.methods.map(({ localName }) => localName).filter((name) => name !== "hello");
  return Object.fromEntries(names.map((name) => [name, () => expect.unreachable(name)])) as never;
}
