import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** What stands in the first fence of a language. */
function fenced(page: string, language: string): string {
  const found = new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\``, "ms").exec(page);
  if (!found) throw new Error(`no ${language} in the page`);
  return found[1]!;
}

test.each(["graph", "adapter", "train", "privacy", "kernels", "secagg"])(
  "the example in libs/%s/README.md prints what the page says",
  (room) => {
    const page = readFileSync(`${ROOT}libs/${room}/README.md`, "utf8");
    const args = ["--import", "tsx", "--input-type=module", "-e", fenced(page, "js")];
    const env = { ...process.env, ORT_DISABLE_TELEMETRY: "1" };
    const ran = spawnSync(process.execPath, args, { cwd: ROOT, encoding: "utf8", env });
    expect(ran.stdout, ran.stderr).toBe(fenced(page, "text"));
  },
);
