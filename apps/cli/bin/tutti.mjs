#!/usr/bin/env node
// Runs the TypeScript sources as they are; see docs/decisions/0003-typescript-without-a-build.md.
import { register } from "tsx/esm/api";

register();
await import("../src/main.ts");
