import { describe, expect, test } from "vitest";
import { merge } from "../src/merge.ts";
import { benchOf, stepOnce } from "./bench.ts";
import { apart, engine, goldenOf, runFile } from "./golden.ts";

/**
 * conformance/peft: torch 2.13 and PEFT 0.21 made base, adapter, outputs and gradients; both of torch's
 * exporters wrote the base. Outputs within 1e-5, gradients within 1e-4 of the largest element.
 */
for (const name of ["mlp", "bert", "cnn"] as const) {
  const golden = goldenOf(name);
  describe.skipIf(!golden).each(["dynamo", "legacy"] as const)(`PEFT ${name}, %s exporter`, (exporter) => {
    const bench = () => benchOf(golden!, exporter);

    test("the base answers as torch's", async () => {
      const { bytes, inputs, expected } = bench();
      expect(apart((await runFile(bytes, inputs)).get("output")!, expected("output.base"))).toBeLessThan(
        1e-5,
      );
    });

    test("the injected graph answers as PEFT's, which is not what the base answers", async () => {
      const { injected, feeds, expected } = bench();
      const results = await stepOnce(engine, injected, feeds);
      expect(apart(results.get("output")!, expected("output.adapter"))).toBeLessThan(1e-5);
      expect(apart(results.get("output")!, expected("output.base"))).toBeGreaterThan(1e-3);
    });

    test("the merged file answers as PEFT's", async () => {
      const { bytes, loaded, inputs, expected } = bench();
      const merged = merge(bytes, loaded.adapter, loaded.tensors);
      expect(merged.length).toBe(bytes.length);
      expect(apart((await runFile(merged, inputs)).get("output")!, expected("output.adapter"))).toBeLessThan(
        1e-5,
      );
    });

    test("gradients of mean(output²) are torch's", async () => {
      expect(await bench().gradientError(engine)).toBeLessThan(1e-4);
    });
  });
}
