/**
 * onnxruntime reports its use to its maker unless this is set before it loads (1.30 does so on Linux too,
 * with a device id kept in the home folder): decision 0005. A device of ours talks to its coordinator and to
 * nobody else.
 */
process.env.ORT_DISABLE_TELEMETRY = "1";
