// A coordinator as a process that tells what it holds: node --import tsx standing.ts '<{folder}>'.
import { serveFederation } from "@tutti/coordinator/serve";
import { asChild } from "../round/child.ts";

export type StandingSaid =
  | { readonly kind: "serving"; readonly port: number; readonly pid: number }
  | {
      readonly kind: "holds";
      readonly devices: number;
      readonly residentBytes: number;
      readonly heapBytes: number;
      readonly outsideBytes: number;
      /** Sockets, files and timers that keep the process busy. */
      readonly handles: number;
    };

const [{ folder }, say] = asChild<{ folder: string }, StandingSaid, never>(() => {});
const { address, coordinator } = await serveFederation({ folder });
say({ kind: "serving", port: Number(address.split(":").at(-1)), pid: process.pid });
setInterval(() => {
  const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
  say({
    kind: "holds",
    devices: coordinator.presence.present().length,
    residentBytes: rss,
    heapBytes: heapUsed,
    outsideBytes: external + arrayBuffers,
    handles: process.getActiveResourcesInfo().length,
  });
}, 500);
