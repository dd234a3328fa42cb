import { hex } from "@tutti/foundation/bytes";
import { demand } from "@tutti/foundation/check";
import { Fault } from "@tutti/foundation/fault";
import { fieldsOf } from "./fields.ts";
import type { Store } from "./store.ts";

const PEERS = "peers";
/** About 14 MB as a document. Past it nobody new is remembered; whoever is known stays so. */
const MAX_PEERS = 100_000;

/**
 * Each name of a checked roster keeps the key it was first seen with. A join file that leaked can bind a
 * second key to a site's name, and the authority's signature on it is good; only the coordinator's word says
 * that the token was used. A site that joins again has a new name, so another key is never honest.
 * @throws Fault("refused") naming the first whose key is another; then nothing is remembered.
 */
export async function pinPeers(
  store: Pick<Store, "document" | "putDocument">,
  parties: ReadonlyMap<string, { readonly publicKey: Uint8Array }>,
): Promise<void> {
  const known = await readPeers(store);
  const before = known.size;
  for (const [name, { publicKey }] of parties) {
    const [key, pinned] = [hex(publicKey), known.get(name)];
    const todo = `Ask the operator. If ${name} truly has a new key, take it out of documents/peers.json`;
    const detail = { expected: `key ${pinned?.slice(0, 12)}, as before`, got: key.slice(0, 12), todo };
    demand(pinned === undefined || pinned === key, () => new Fault("refused", `peer ${name}`, detail));
    if (known.size < MAX_PEERS) known.set(name, key);
  }
  if (known.size > before) await store.putDocument(PEERS, JSON.stringify({ peers: named(known) }));
}

function named(known: ReadonlyMap<string, string>): { name: string; publicKey: string }[] {
  return [...known].map(([name, publicKey]) => ({ name, publicKey }));
}

/** Damaged, it is not taken for empty: that would forget every key. */
async function readPeers(store: Pick<Store, "document">): Promise<Map<string, string>> {
  const text = await store.document(PEERS);
  if (text === null) return new Map();
  const peers = fieldsOf("peers.json", text, "storage").objects("peers");
  return new Map(peers.map((peer) => [peer.string("name"), peer.string("publicKey")]));
}
