import { hex } from "@tutti/foundation/bytes";
import { unreachable } from "@tutti/foundation/check";
import type { MessageShape } from "@tutti/wire/message";
import type { InstructionSchema } from "@tutti/wire/round";
import type { DescMethod } from "@tutti/wire/rpc";
import type { Message } from "./wire.ts";

/**
 * FNV-1a of bytes, so that messages which differ look different in a line. Of 32 bits: a pair in 2^32 looks
 * alike all the same.
 */
export function mark(bytes: Uint8Array): string {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash.toString(16).padStart(8, "0");
}

type Fields = { round?: number; attempt?: number; [field: string]: unknown };

/** A request in a few words. */
export function requestLine({ localName }: DescMethod, message: Message, bytes: Uint8Array): string {
  const said = message as unknown as Fields;
  const terms = said.terms as Fields | undefined;
  const at = said.round === undefined ? terms : said;
  const where = at?.round === undefined ? "" : ` ${at.round}/${at.attempt ?? ""}`;
  const detail = said.activity ?? said.reason ?? "";
  return `${localName}${where}${detail ? ` (${String(detail)})` : ""} #${mark(bytes)}`;
}

/** A word of the coordinator's in a few words. */
export function wordLine({ word }: MessageShape<typeof InstructionSchema>): string {
  switch (word.case) {
    case "invite":
      return `invite ${word.value.task?.round}/${word.value.attempt}`;
    case "openSession":
      return `open ${word.value.terms?.round}/${word.value.terms?.attempt}`;
    case "roster":
      return `roster of ${word.value.members.length}`;
    case "survivors":
      return `survivors ${word.value.devices.join(" ")}`;
    case "delivery":
      return `delivery ${hex(word.value.session).slice(0, 8)}`;
    case "attestations":
      return `attestations of ${word.value.signed.length}`;
    case "runOver":
      return `run over: ${word.value.outcome} ${word.value.reason}`;
    case "idle":
    case "picks":
    case "published":
    case "excused":
    case "notice":
      return word.case;
    case undefined:
      return "nothing";
    default:
      return unreachable(word);
  }
}
