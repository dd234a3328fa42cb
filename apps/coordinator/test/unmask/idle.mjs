// A process that unmasks on threads and then has nothing left to do.
import { register } from "tsx/esm/api";

register();
const { LiftPool } = await import("../../src/unmask/pool.ts");
const sum = new Uint32Array(1000);
await new LiftPool({ threads: 2, inlineWords: 0 }).lift(sum, [{ kind: "self", key: new Uint8Array(32) }]);
process.stdout.write(`${sum.filter((word) => word !== 0).length} words\n`);
