// `npm start`: the whole federation on this machine. See README.md beside this file.
import { register } from "tsx/esm/api";

register();
await import("./src/main.ts");
