import { base64 } from "@tutti/foundation/bytes";
import { create } from "@tutti/wire/message";
import { type DeviceRecord, DevicesRequestSchema } from "@tutti/wire/standing";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { asRegistrar } from "../owner.ts";

export function devicesCommand(): Command {
  return new Command("devices")
    .description(
      "List the devices that have enrolled: site, labels, until when, when last seen, revoked. " +
        "When one was seen is known since the coordinator's start or takeover.",
    )
    .option("--federation <folder>", "federation folder with the owner's key", "federation")
    .action((options: { federation: string }, command: Command) =>
      withContext(command, async ({ output }) => {
        const devices = await asRegistrar(options.federation, async (register) => {
          const all: DeviceRecord[] = [];
          for await (const device of register.devices(create(DevicesRequestSchema))) all.push(device);
          return all;
        });
        const lines = devices.map((device) => lineOf(device, Date.now()));
        output.result({ devices: devices.map(plain) }, lines.join("\n") || "no device has enrolled yet");
      }),
    );
}

function plain(device: DeviceRecord): Record<string, unknown> {
  const { name, site, labels, revoked, connected, renewalPending } = device;
  return {
    name,
    site,
    labels,
    serial: base64(device.serial),
    validFrom: instant(device.notBeforeS * 1000),
    validUntil: instant(device.notAfterS * 1000),
    enrolled: instant(device.enrolledMs),
    lastSeen: device.lastSeenMs === 0 ? null : instant(device.lastSeenMs),
    connected,
    revoked,
    renewalPending,
  };
}

/** For people. When one was seen is known since the coordinator started, or took over. */
export function lineOf(device: DeviceRecord, nowMs: number): string {
  const { name, site, labels, notAfterS, lastSeenMs } = device;
  const seen =
    lastSeenMs === 0 ? "not seen since the coordinator began" : `seen ${instant(lastSeenMs).slice(0, 19)}Z`;
  const ended = notAfterS * 1000 < nowMs ? "expired" : "valid until";
  return [
    name,
    ...(site ? [`site ${site}`] : []),
    ...Object.entries(labels).map(([key, value]) => `${key}=${value}`),
    `${ended} ${instant(notAfterS * 1000).slice(0, 10)}`,
    device.connected ? "connected" : seen,
    ...(device.renewalPending ? ["asks for a renewal"] : []),
    ...(device.revoked ? ["revoked"] : []),
  ].join("  ");
}

function instant(ms: number): string {
  return new Date(ms).toISOString();
}
