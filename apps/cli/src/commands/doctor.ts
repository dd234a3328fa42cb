import { andThen, Fault } from "@tutti/foundation/fault";
import type { Finding } from "@tutti/foundation/finding";
import { Command } from "commander";
import { withContext } from "../action.ts";
import type { Output } from "../output.ts";

const HELP = `
Each line: ok, warn or fail; what was looked at; what was found; what to do. It may run beside the coordinator
or the device, and changes nothing: one small file is written, synced and removed to see that the disk works.
The exit code is 0 without a fail, 4 with one.`;

export function doctorCommand(): Command {
  return new Command("doctor")
    .description(
      "Look at everything that a coordinator, or with --device a device, needs, and say what to do.",
    )
    .argument("[folder]", "federation folder", "federation")
    .option("--device <folder>", "a device's folder instead")
    .addHelpText("after", HELP)
    .action((folder: string, { device }: { device?: string }, command: Command) =>
      withContext(command, async ({ output }) => {
        tell(device === undefined ? await ofFederation(folder) : await ofDevice(device), output);
      }),
    );
}

async function ofDevice(folder: string): Promise<Finding[]> {
  const { examineDevice } = await import("@tutti/client-sdk/node/doctor");
  return await examineDevice(folder);
}

async function ofFederation(folder: string): Promise<Finding[]> {
  const { examineFederation } = await import("@tutti/coordinator/operate/doctor/doctor");
  return await examineFederation(folder, () => helloOf(folder));
}

const WAIT_MS = 5_000;

/** The wall clock of whoever answers where devices dial. */
async function helloOf(folder: string): Promise<number> {
  const { connect } = await import("@tutti/client-sdk/node/grpc");
  const { nativeSigningKey } = await import("@tutti/client-sdk/node/sign");
  const { addressOf } = await import("@tutti/coordinator/folder/config");
  const { PATHS, readConfig, readText } = await import("@tutti/coordinator/folder/layout");
  const { platformRandom } = await import("@tutti/foundation/random");
  const { HelloRequestSchema } = await import("@tutti/wire/device");
  const { create } = await import("@tutti/wire/message");
  const address = addressOf(await readConfig(folder));
  const tls = await readText(folder, PATHS.tlsCertificate);
  // Hello carries no signature, so any key will do.
  const link = connect({ address, tls, name: "doctor", key: nativeSigningKey(platformRandom().bytes(32)) });
  try {
    return (await link.hello(create(HelloRequestSchema), AbortSignal.timeout(WAIT_MS))).nowMs;
  } finally {
    link.close();
  }
}

function tell(findings: readonly Finding[], output: Output): void {
  const count = (state: Finding["state"]) => findings.filter((one) => one.state === state).length;
  const width = Math.max(...findings.map(({ what }) => what.length));
  const lines = findings.map(({ what, state, says, todo }) => {
    const told = todo && state !== "ok" ? andThen(says, todo) : says;
    return `${state.padEnd(4)}  ${what.padEnd(width)}  ${told}`;
  });
  const sum = { ok: count("ok"), warn: count("warn"), fail: count("fail") };
  output.result(
    { findings, ...sum },
    [...lines, `${sum.ok} ok, ${sum.warn} warn, ${sum.fail} fail`].join("\n"),
  );
  if (sum.fail === 0) return;
  const failed = findings.filter(({ state }) => state === "fail").map(({ what }) => what);
  throw new Fault("refused", "doctor", { expected: "no check to fail", got: failed.join(", ") });
}
