// Registered before tsx, so it sits below it: sources are changed before they are compiled.
// node --import ./test/attacks/mutate/register.mjs --import tsx …, patches as JSON in TUTTI_TEST_PATCHES.
import * as module from "node:module";
import { load, prepare } from "./hook.mjs";

const patches = JSON.parse(process.env.TUTTI_TEST_PATCHES ?? "[]");
if (patches.length > 0) {
  if (module.registerHooks) {
    prepare(patches);
    module.registerHooks({ load });
  } else {
    module.register("./hook.mjs", import.meta.url, { data: patches });
  }
}
