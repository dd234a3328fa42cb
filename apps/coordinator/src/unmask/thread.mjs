// A thread loads its sources by itself, whoever started the process; see
// docs/decisions/0003-typescript-without-a-build.md.
import { register } from "tsx/esm/api";

register();
await import("./thread.ts");
