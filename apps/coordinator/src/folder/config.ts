import { isIP } from "node:net";
import { Fault } from "@tutti/foundation/fault";
import { meantBy } from "@tutti/plan/meant";
import * as v from "valibot";
import { schema } from "./schema.ts";

/** tutti.json, checked and with its defaults (docs/operating.md says what each field means). */
export type Config = v.InferOutput<typeof schema>;
/** As a person writes it: what has a default may be left out. */
export type ConfigInput = v.InferInput<typeof schema>;

/** "host:port", an IPv6 address in brackets. */
export function addressOf({ host, port }: { host: string; port: number }): string {
  return `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
}

/** What a person wrote, again: defaults stay out of the file, so that a later version's reach it. */
export function configText(config: ConfigInput): string {
  checkConfig(config);
  return `${JSON.stringify(config, null, 2)}\n`;
}

/**
 * Reads tutti.json strictly. @throws Fault("bad-input"): the field, what was expected and what came; where it
 * is no JSON the line, and nothing of what is there, which may be a password.
 */
export function parseConfig(written: string, file = "tutti.json"): Config {
  let value: unknown;
  try {
    value = JSON.parse(written);
  } catch (cause) {
    const got = `other text in line ${badLine(written)}`;
    const todo = "Correct it there, or take the file from a copy";
    throw new Fault("bad-input", file, { expected: "JSON", got, todo, cause });
  }
  return checkConfig(value);
}

/** The first line up to which it is no beginning of JSON; errors tell a place in some cases only. */
function badLine(text: string): number {
  const lines = text.split("\n").slice(0, MAX_LINES);
  const bad = lines.findIndex((_, at) => !mayGoOn(`${lines.slice(0, at + 1).join("\n")}\n`));
  return bad < 0 ? lines.length : bad + 1;
}

const MAX_LINES = 1_000;

function mayGoOn(beginning: string): boolean {
  try {
    JSON.parse(beginning);
    return true;
  } catch (cause) {
    const { message } = cause as Error;
    return message.includes("end of JSON") || Number(/position (\d+)/.exec(message)?.[1]) >= beginning.length;
  }
}

export function checkConfig(value: unknown): Config {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  // A misspelt field is both unknown and missing; its own name says more.
  const issue = result.issues.find(({ expected }) => expected === "never") ?? result.issues[0];
  const path = v.getDotPath(issue);
  throw new Fault("bad-input", path ? `tutti.json: ${path}` : "tutti.json", contrast(issue));
}

/** What an issue says. Of a secret's place the value is never quoted. */
function contrast(issue: v.BaseIssue<unknown>): { expected: string; got: string; todo?: string } {
  const at = issue.path?.at(-1);
  if (issue.expected === "never" && at) {
    const got = JSON.stringify(String(at.key).slice(0, 40));
    return { expected: "no such field", got, todo: meantBy(schema, issue) };
  }
  if (issue.received === "undefined") return { expected: "a value", got: "nothing" };
  const said = issue.kind === "schema" && issue.type !== "string" && issue.type !== "number";
  const expected = said ? (issue.expected ?? issue.message) : issue.message;
  return { expected, got: at?.key === "url" ? "another text" : quoted(issue.input) };
}

function quoted(input: unknown): string {
  if (typeof input === "object" && input !== null) return Array.isArray(input) ? "a list" : "an object";
  return JSON.stringify(input)?.slice(0, 80) ?? typeof input;
}
