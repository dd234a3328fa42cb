// Writes to a device's audit log without end, in short files, and says each entry once it is on disk.
import { openAudit } from "../../src/node/audit.ts";

const audit = openAudit(process.argv[2]!, { device: "ward-7", wallMs: Date.now, segmentBytes: 700 });
for (let at = 0; ; at++) {
  audit.note({ actor: "device", what: "one", subject: `${at}` });
  process.stdout.write(`${at}\n`);
}
