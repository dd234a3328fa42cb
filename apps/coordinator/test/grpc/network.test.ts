import type { Socket } from "node:net";
import { describe, expect, test } from "vitest";
import { Connections } from "../../src/grpc/connections.ts";
import { LIMITS } from "../../src/grpc/limits.ts";
import { networkOf } from "../../src/grpc/network.ts";

describe("whose an address is", () => {
  test.each([
    ["192.0.2.7", "192.0.2.7"],
    ["::ffff:192.0.2.7", "192.0.2.7"],
    ["::FFFF:c000:207", "192.0.2.7"],
    ["0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:1:2::6", "2001:db8:1:2::/64"],
    ["2001:db8::1:2:3:4:5", "2001:db8:0:1::/64"],
    ["2001:db8::", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["64:ff9b::192.0.2.7", "64:ff9b:0:0::/64"],
    ["", ""],
  ])("%s: %s", (address, network) => expect(networkOf(address)).toBe(network));
});

/** A socket as far as it is looked at here. */
function socketFrom(remoteAddress: string, remotePort: number) {
  const socket = {
    remoteAddress,
    remotePort,
    destroyed: false,
    once: () => socket,
    destroy: () => Object.assign(socket, { destroyed: true }),
  };
  return socket;
}

test("strangers of one IPv6 network give way to each other, and not to them a newcomer of another", () => {
  const connections = new Connections({ ...LIMITS, connectionsPerAddress: 10, newcomers: 20 }, () => 0);
  const admit = (socket: ReturnType<typeof socketFrom>) => connections.admit(socket as unknown as Socket);
  const honest = ["2001:db8:1::1", "192.0.2.1"].map((address) => socketFrom(address, 1));
  expect(honest.map(admit)).toEqual([true, true]);
  for (let at = 0; at < 50; at++) {
    expect(admit(socketFrom(`2001:db8:2::${at.toString(16)}`, 5))).toBe(true);
    expect(connections.newcomers).toBe(Math.min(at + 1, 10) + 2);
  }
  expect(honest.map(({ destroyed }) => destroyed)).toEqual([false, false]);
});

test("one IPv4 address has one share, mapped or not", () => {
  const connections = new Connections({ ...LIMITS, connectionsPerAddress: 2 }, () => 0);
  const sockets = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.2"].map(socketFrom);
  for (const socket of sockets) connections.admit(socket as unknown as Socket);
  expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true, false, false, false]);
});
