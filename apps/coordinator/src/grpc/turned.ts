/** Why peers are turned away before grpc-js, or anybody, hears them. */
export const CAUSES = {
  full: "the machine, or an address, has as many connections as it may",
  newcomer: "a newcomer gave way to another",
  silent: "a newcomer signed nothing in its time",
  device: "a device has as many connections as it may; its oldest was cut",
  unresponsive: "a device that a round waited for answered no PING in the time that it names itself",
  rate: "more calls or control frames on a connection than anyone has a use for",
  busy: "too much to do, or too little memory: asked to come back",
  compressed: "compressed messages, which nobody has a reason to send",
  malformed: "headers that gRPC cannot carry, or several signatures",
} as const;

export type Cause = keyof typeof CAUSES;

/** How often, by cause. */
export class Turned {
  readonly counts = new Map<Cause, number>();

  add(cause: Cause): void {
    this.counts.set(cause, (this.counts.get(cause) ?? 0) + 1);
  }
}
