import "./no-telemetry.ts";

/** The one place that loads onnxruntime-node, so that nothing loads it with its telemetry on. */
export * from "onnxruntime-node";
