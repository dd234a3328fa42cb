// npm run build: `tutti` as plain JavaScript, dist/tutti.mjs, for coordinators and devices that stay. From
// node_modules it loads native packages, TensorFlow.js and OpenTelemetry, nothing else.
import { bundle } from "./bundle.ts";

const ROOT = new URL("../", import.meta.url);

await bundle(new URL("apps/cli/src/main.ts", ROOT), { name: "tutti", folder: new URL("dist/", ROOT) });
process.stdout.write("dist/tutti.mjs\n");
