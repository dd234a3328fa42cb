import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { House, type HouseOptions } from "./house.ts";

/** A house in a fresh folder of the system's; both are gone when `body` is done, however it ends. */
export async function withHouse<T>(
  options: Omit<HouseOptions, "folder">,
  body: (house: House) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "tutti-claim-"));
  const houses: House[] = [];
  try {
    const house = await House.open({ ...options, folder });
    houses.push(house);
    return await body(house);
  } finally {
    await Promise.all(houses.map((house) => house.close()));
    await rm(folder, { recursive: true, force: true });
  }
}
