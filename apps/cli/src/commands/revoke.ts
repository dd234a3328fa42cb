import { keepRevoked, readRevoked } from "@tutti/coordinator/folder/authority";
import { Fault } from "@tutti/foundation/fault";
import { platformRandom } from "@tutti/foundation/random";
import { openRevocations, signRevocations, withRevoked } from "@tutti/release/revocations";
import { RevokeRequestSchema } from "@tutti/wire/admin";
import { create } from "@tutti/wire/message";
import { DevicesRequestSchema, RevocationsRequestSchema } from "@tutti/wire/standing";
import { Command } from "commander";
import { withContext } from "../action.ts";
import { asOwner, asRegistrar } from "../owner.ts";

export function revokeCommand(): Command {
  return new Command("revoke")
    .description(
      "Take no request of a device any more; it is out of the round in progress at once. Other devices are " +
        "told, and are in no sum with it again. What it gave to past releases stays in them.",
    )
    .argument("<name>", "the device's name")
    .option("--federation <folder>", "federation folder with the owner's key", "federation")
    .action((name: string, options: { federation: string }, command: Command) =>
      withContext(command, async ({ output }) => {
        const { federation: folder } = options;
        const nowS = Math.floor(Date.now() / 1000);
        const { serial, before, wasRevoked } = await known(folder, { name, nowS });
        const isListed = before.revocations.some((one) => one.name === name);
        const list = wasRevoked && isListed ? before : withRevoked(before, { name, serial, nowS });
        await asOwner(folder, async (admin, owner) => {
          const revocations = signRevocations(list, owner);
          await admin.revoke(create(RevokeRequestSchema, { device: name, revocations }));
          await keepRevoked(folder, { envelope: revocations, random: platformRandom() });
        });
        const how = wasRevoked ? "was revoked already" : "is revoked";
        output.result({ site: name, device: name, list: list.version, wasRevoked }, `${name} ${how}`);
      }),
    );
}

/** How the device is known, and the newest list: the coordinator's, or our own where that is newer. */
async function known(folder: string, { name, nowS }: { name: string; nowS: number }) {
  return await asRegistrar(folder, async (register, { authority }) => {
    const envelope = await register.revocations(create(RevocationsRequestSchema));
    if (envelope.payload.length > 0) {
      openRevocations(envelope, { authority, nowS });
      await keepRevoked(folder, { envelope, random: platformRandom() });
    }
    for await (const { serial, revoked: wasRevoked, ...device } of register.devices(
      create(DevicesRequestSchema),
    ))
      if (device.name === name) return { serial, wasRevoked, before: await readRevoked(folder) };
    throw new Fault("not-found", `device ${name}`, {
      expected: "an enrolled one",
      todo: "List them with `tutti devices`",
    });
  });
}
