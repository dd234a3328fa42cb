import { platformRandom } from "@tutti/foundation/random";
import { denialOf } from "@tutti/identity/denial";
import { newSeed, signingKey, verify } from "@tutti/identity/keys";
import { signRequest } from "@tutti/identity/request";
import { authorization } from "@tutti/wire/authorization";
import { Federation } from "@tutti/wire/round";
import { pathOf } from "@tutti/wire/rpc";
import { expect, test } from "vitest";
import { authenticator } from "../../src/grpc/authenticate.ts";

const random = platformRandom();
const NOW_MS = 1_800_000_000_000;

test("a name that no certificate can have is unknown, and no store is asked of it", async () => {
  const asked: string[] = [];
  const lookup = async (name: string) => void asked.push(name);
  const { openSession, authenticate } = authenticator({ lookup, nowMs: () => NOW_MS, random, verify });
  const { report: method } = Federation.method;
  const { session } = openSession();
  const refusal = async (name: string) => {
    const claims = { name, session, method: pathOf(method), bodyHash: new Uint8Array(32) };
    const times = { nonce: random.bytes(16), expiresMs: NOW_MS + 60_000 };
    const auth = authorization(signRequest(signingKey(newSeed(random)), { ...claims, ...times }));
    return await authenticate({ auth, method, body: new Uint8Array(), peerKey: null }).catch(denialOf);
  };
  for (const name of ["ward-3\0", "", "ward 3", "w".repeat(65), "\u202ew"])
    expect(await refusal(name)).toBe("unknown");
  expect(asked).toEqual([]);
  expect(await refusal("ward-3")).toBe("unknown");
  expect(asked).toEqual(["ward-3"]);
});
