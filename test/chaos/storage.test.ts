import { spawnSync } from "node:child_process";
import { mkdtemp, open, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openFolderStore } from "@tutti/client-sdk/node/store";
import { openArtifacts } from "@tutti/coordinator/artifacts";
import { openSqliteDriver } from "@tutti/coordinator/store/sqlite-driver";
import { openStore } from "@tutti/coordinator/store/store";
import { sha256Hex } from "@tutti/foundation/hash";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

/** Rows of the fault table (docs/reliability.md) about what a disk does to files. */

const RUN = {
  run: "r",
  name: "n",
  plan: new Uint8Array(5000).fill(7),
  header: new Uint8Array(9),
  state: "running",
};
const BYTES = Uint8Array.from({ length: 40_000 }, (_, i) => (i * 7919) % 251);

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tutti-chaos-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function flip(file: string, at: number): Promise<void> {
  const handle = await open(file, "r+");
  try {
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    await handle.write(Buffer.from([byte[0]! ^ 0x40]), 0, 1, at);
  } finally {
    await handle.close();
  }
}

/** A database with a run and some entries, closed; its file. */
async function database(): Promise<string> {
  const file = join(folder, "tutti.sqlite");
  const store = await openStore({ file });
  await store.addRun(RUN);
  for (let seq = 0; seq < 200; seq++)
    await store.commit("r", { append: [{ seq, entry: new Uint8Array(300).fill(seq) }] });
  await store.close();
  // Else its log has every page, and a damaged file is made whole again from it.
  const driver = openSqliteDriver(file);
  expect(driver.prepare("pragma wal_checkpoint(truncate)").all([])).toMatchObject([{ busy: 0 }]);
  driver.close();
  return file;
}

/** Opens it and reads all there is; whether what came is what was written, or a Fault told of it. */
async function outcome(file: string): Promise<"whole" | "refused"> {
  try {
    const store = await openStore({ file });
    try {
      const whole = await store.integrity();
      const { entries } = await store.journal("r");
      const same =
        entries.length === 200 && entries.every((entry, seq) => entry.every((byte) => byte === seq));
      return whole && same ? "whole" : "refused";
    } finally {
      await store.close();
    }
  } catch (fault) {
    expect(fault).toMatchObject({ name: "Fault", code: expect.stringMatching(/^(storage|unsupported)$/) });
    return "refused";
  }
}

describe("bit-flipped and truncated: the database", () => {
  test("cut anywhere in the middle, it is refused or said not to be whole", async () => {
    const file = await database();
    await truncate(file, 40_960);
    expect(await outcome(file)).toBe("refused");
  });

  test("with its first page overwritten, it is refused by name", async () => {
    const file = await database();
    const handle = await open(file, "r+");
    await handle.write(Buffer.alloc(100, 0xff), 0, 100, 0);
    await handle.close();
    expect(await outcome(file)).toBe("refused");
  });

  test("that is no database at all is refused by name", async () => {
    const file = join(folder, "tutti.sqlite");
    await writeFile(file, "a note that somebody saved here by mistake, longer than any header of a file is");
    expect(await outcome(file)).toBe("refused");
  });
});

describe("a disk that is full", () => {
  test("refuses entries or ends the process; what it acknowledged is there, and no more", async () => {
    const file = join(folder, "tutti.sqlite");
    const child = fileURLToPath(new URL("./full.ts", import.meta.url));
    // No file may grow beyond 320 KiB: what a write beyond it meets is an error, as on a full disk.
    const limited = `ulimit -f 320; exec "$0" --import tsx "$1" "$2"`;
    const { stdout } = spawnSync("bash", ["-c", limited, process.execPath, child, file], {
      encoding: "utf8",
    });
    const acknowledged = stdout.split("\n").filter((line) => line.startsWith("acknowledged")).length;
    expect(acknowledged).toBeGreaterThan(10);
    expect(acknowledged).toBeLessThan(2_000);
    const store = await openStore({ file });
    try {
      expect(await store.integrity()).toBe(true);
      const { entries } = await store.journal("r");
      // One more may be there: an error says "unknown", never "no".
      expect(entries.length - acknowledged).toBeOneOf([0, 1]);
      await store.commit("r", { append: [{ seq: entries.length, entry: new Uint8Array(300) }] });
    } finally {
      await store.close();
    }
  });

  test("leaves no half of an artifact", async () => {
    const artifacts = openArtifacts(join(folder, "artifacts"));
    async function* cut(): AsyncGenerator<Uint8Array> {
      yield BYTES.subarray(0, 1000);
      throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    }
    const name = sha256Hex(BYTES);
    await expect(artifacts.put(name, cut(), BYTES.length)).rejects.toMatchObject({ code: "storage" });
    expect(await readdir(join(folder, "artifacts"))).toEqual([]);
    expect(await artifacts.putBytes(BYTES)).toBe(name);
  });
});

describe("bit-flipped and truncated: artifacts", () => {
  test.each(["flipped", "cut"])(
    "%s, an artifact is refused when it is read, and put again it is whole",
    async (how) => {
      const artifacts = openArtifacts(join(folder, "artifacts"));
      const name = await artifacts.putBytes(BYTES);
      const file = join(folder, "artifacts", name);
      if (how === "cut") await truncate(file, 20_000);
      else await flip(file, 12_345);
      await expect(artifacts.read(name)).rejects.toMatchObject({ code: "storage" });
      await artifacts.putBytes(BYTES);
      expect(sha256Hex(await artifacts.read(name))).toBe(name);
    },
  );
});

describe("bit-flipped and truncated: a device's folder", () => {
  const release = {
    digest: "ab".repeat(32),
    run: "cd".repeat(32),
    version: 1,
    manifest: "{}",
    adapter: BYTES,
    model: BYTES,
  };

  test.each(["adapter.safetensors", "model.onnx", "manifest.json", "release.json"])(
    "a release whose %s changed is not there",
    async (name) => {
      const store = await openFolderStore(folder);
      await store.activate(release);
      expect(await store.release(release.digest)).not.toBeNull();
      await flip(join(folder, "releases", release.digest, name), 1);
      expect(await store.release(release.digest)).toBeNull();
    },
  );

  test("a pointer that is cut is refused by name", async () => {
    const store = await openFolderStore(folder);
    await store.activate(release);
    await truncate(join(folder, "current.json"), 20);
    await expect(store.pointer()).rejects.toMatchObject({ name: "Fault" });
    expect(await readdir(join(folder, "releases"))).toEqual([release.digest]);
  });
});
