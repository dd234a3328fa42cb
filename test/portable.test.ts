import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { bundle } from "../claims/support/bundle.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const bundled = (source: string) => bundle(source, { root: ROOT, name: "room" });

/** What claim `portable` measures with; the claim itself is run by .ci/run. */
describe("a bundle for browsers", () => {
  test("names every Node built-in, with and without the prefix, and who asked", async () => {
    const { builtins } = await bundled(
      'import { readFileSync } from "node:fs"; import os from "os"; console.log(readFileSync, os);',
    );
    expect(builtins).toContainEqual(expect.stringMatching(/^node:fs in /));
    expect(builtins).toContainEqual(expect.stringMatching(/^os in /));
  });

  test("names the built-ins of a package, and keeps apart what the package declares absent", async () => {
    const grpc = await bundled('export * from "@grpc/grpc-js";');
    expect(grpc.builtins).toContain("http2 in @grpc/grpc-js");
    const nacl = await bundled('export { default } from "tweetnacl";');
    expect(nacl).toMatchObject({ builtins: [], declaredAbsent: ["crypto in tweetnacl"] });
  });

  test("names the packages inside", async () => {
    const { packages } = await bundled('export { tensor } from "@tensorflow/tfjs-core";');
    expect(packages).toContain("@tensorflow/tfjs-core");
  });

  test("the device SDK has no built-in and no engine in it", async () => {
    const { builtins, packages } = await bundled(`export * from "${ROOT}apps/client-sdk/src/index.ts";`);
    expect(builtins).toEqual([]);
    expect(packages.filter((name) => /tensorflow|onnxruntime/.test(name))).toEqual([]);
  });
});
