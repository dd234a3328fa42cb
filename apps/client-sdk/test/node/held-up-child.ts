// Says how long computing held it up, whenever it is asked: node --import tsx held-up-child.ts.
import { heldUpMs } from "../../src/node/held-up.ts";

heldUpMs();
process.on("message", (computeMs: number) => {
  const untilMs = performance.now() + computeMs;
  while (performance.now() < untilMs);
  setTimeout(() => process.send?.(heldUpMs()), 200);
});
process.send?.("ready");
