import type { SeededRandom } from "@tutti/foundation/random";
import { CALM } from "./network.ts";
import { pick } from "./scenario.ts";
import { FEWEST_KINDS, type Site, SOUND, type World } from "./world.ts";

/** A kind of fault: how a seed that has it plans it. */
type Plan = (world: World, draw: SeededRandom) => void;

const HOUR_MS = 3_600_000;
/** How often an owner stops a run. */
export const MOST_STOPS = 2;
/** Before the calm. */
const LAST_MS = 1_000;

/** Most faults come while a run is in progress, which is soon. */
function at(draw: SeededRandom, world: World): number {
  return 300 + draw.uniform() ** 2 * (world.scenario.calmMs - 1_000);
}

function times(draw: SeededRandom, most: number, act: () => void): void {
  for (let left = 1 + draw.below(most); left > 0; left--) act();
}

/** At some moment, with some device. */
function once(world: World, draw: SeededRandom, act: (site: Site) => void): void {
  const name = pick(draw, world.scenario.devices);
  world.timeline.after(at(draw, world), () => act(world.site(name)));
}

/** From some moment on, for so long at most. */
function during(
  world: World,
  draw: SeededRandom,
  { mostMs, begin, end }: { mostMs: number; begin: () => void; end: () => void },
): void {
  const fromMs = at(draw, world);
  world.timeline.after(fromMs, begin);
  world.timeline.after(fromMs + mostMs * (0.1 + 0.9 * draw.uniform()), end);
}

/** A process dies, and its supervisor starts it again later. */
function kill(world: World, site: Site, backMs: number): void {
  if (site.life === null) return;
  world.struck("device killed", site.name);
  site.life.die();
  world.bootDevice(site.name, backMs);
}

const STAGES = new Set(["advertise", "share", "upload", "attest", "reveal"]);

/**
 * After so many messages of secure sums; sometimes the machine's clock is set then, too, so that certificates
 * are over when the round is taken up again.
 */
function killInSum(world: World, draw: SeededRandom): void {
  const matters = world.scenario.short.size > 0;
  const [effects, isSet] = [1 + draw.below(12), draw.uniform() < (matters ? 0.9 : 0.2)];
  let left = 1 + draw.below(30);
  world.onAnswer.push((_, method) => {
    if (!STAGES.has(method) || --left !== 0) return;
    const life = world.life;
    life?.whenDead(() => {
      world.struck("killed in a sum");
      if (!isSet) return;
      world.struck("clock step", `coordinator by ${HOUR_MS} ms`);
      world.wall.offsetMs += HOUR_MS;
    });
    life?.dieAtEffect(effects);
  });
}

export const FAULTS: Readonly<Record<string, Plan>> = {
  lost: ({ network }, draw) => {
    network.weather = { ...network.weather, lost: 0.01 + draw.uniform() * 0.05 };
  },
  late: ({ network }, draw) => {
    network.weather = { ...network.weather, late: 0.02 + draw.uniform() * 0.12 };
  },
  repeated: ({ network }, draw) => {
    network.weather = { ...network.weather, repeated: 0.05 + draw.uniform() * 0.2 };
  },
  partition: (world, draw) =>
    times(draw, 3, () => {
      const ms = 500 + draw.uniform() ** 2 * 30_000;
      once(world, draw, ({ name }) => {
        world.struck("partition", `${name} for ${Math.round(ms)} ms`);
        world.network.part(name, ms);
      });
    }),
  cut: (world, draw) =>
    times(draw, 4, () =>
      once(world, draw, ({ name }) => {
        world.struck("cut", name);
        world.network.cut(name, draw.uniform() < 0.4 ? { silent: true } : {});
      }),
    ),
  "coordinator killed": (world, draw) =>
    times(draw, 2, () =>
      world.timeline.after(at(draw, world), () => {
        if (world.life === null) return;
        world.struck("coordinator killed");
        world.life.die();
      }),
    ),
  "killed at an effect": (world, draw) =>
    times(draw, 3, () => {
      const effects = 1 + draw.below(60);
      world.timeline.after(at(draw, world), () => {
        const life = world.life;
        life?.whenDead(() => world.struck("killed at an effect"));
        life?.dieAtEffect(effects);
      });
    }),
  "killed in a sum": (world, draw) => times(draw, 2, () => killInSum(world, draw)),
  restarted: (world, draw) =>
    world.timeline.after(at(draw, world), () => {
      const now = world.process;
      if (now === null) return;
      world.struck("restarted");
      world.process = null;
      now.coordinator.close().then(() => now.life.die());
    }),
  "coordinator stopped": (world, draw) => {
    const ms = 500 + draw.uniform() * 8_000;
    world.timeline.after(at(draw, world), () => {
      const life = world.life;
      if (life === null) return;
      world.struck("coordinator stopped", `for ${Math.round(ms)} ms`);
      life.freeze();
      world.timeline.after(ms, () => life.thaw());
    });
  },
  "taken over": (world, draw) => {
    const wokenMs = draw.uniform() * 6_000;
    world.timeline.after(at(draw, world), () => {
      if (world.process === null) return;
      world.struck("taken over");
      world.takeOver(wokenMs);
    });
  },
  "storage failed": (world, draw) => {
    const failed = 0.01 + draw.uniform() * 0.12;
    const begin = () => {
      world.storage = { ...world.storage, failed };
    };
    const end = () => {
      world.storage = { ...world.storage, failed: 0 };
    };
    during(world, draw, { mostMs: 12_000, begin, end });
  },
  "storage unknown": (world, draw) => {
    const unknown = 0.01 + draw.uniform() * 0.12;
    const begin = () => {
      world.storage = { ...world.storage, unknown };
    };
    const end = () => {
      world.storage = { ...world.storage, unknown: 0 };
    };
    during(world, draw, { mostMs: 12_000, begin, end });
  },
  "storage slow": (world, draw) => {
    const slowMs = 20 + draw.uniform() * 400;
    const begin = () => {
      world.struck("storage slow");
      world.storage = { ...world.storage, slowMs };
    };
    const end = () => {
      world.storage = { ...world.storage, slowMs: 0 };
    };
    during(world, draw, { mostMs: 6_000, begin, end });
  },
  "killed, and one operation fails": (world, draw) => {
    const [atMs, left] = [500 + draw.uniform() * (world.scenario.calmMs - 1_000), 1 + draw.below(24)];
    world.timeline.after(atMs, () => {
      if (world.life === null) return;
      world.struck("killed, and one operation fails");
      world.life.die();
      world.snags.add({ who: "coordinator", fate: "failed", left });
    });
  },
  "killed while storage fails": (world, draw) => {
    const [fromMs, failed] = [at(draw, world), 0.1 + draw.uniform() * 0.3];
    world.timeline.after(fromMs, () => {
      world.struck("killed while storage fails");
      world.storage = { ...world.storage, failed };
      world.life?.die();
    });
    world.timeline.after(fromMs + 4_000, () => {
      world.storage = { ...world.storage, failed: 0 };
    });
  },
  "disk full": (world, draw) => {
    const begin = () => {
      world.struck("disk full");
      world.storage = { ...world.storage, failed: 1 };
    };
    const end = () => {
      world.storage = { ...world.storage, failed: 0 };
    };
    during(world, draw, { mostMs: 5_000, begin, end });
  },
  "device killed": (world, draw) =>
    times(draw, 4, () => {
      const backMs = 50 + draw.uniform() * 6_000;
      once(world, draw, (site) => kill(world, site, backMs));
    }),
  "device killed at an effect": (world, draw) =>
    times(draw, 4, () => {
      const [effects, backMs] = [1 + draw.below(20), 50 + draw.uniform() * 6_000];
      once(world, draw, ({ name, life }) => {
        life?.whenDead(() => {
          world.struck("device killed at an effect", name);
          world.bootDevice(name, backMs);
        });
        life?.dieAtEffect(effects);
      });
    }),
  "device gone": (world, draw) =>
    once(world, draw, (site) => {
      world.struck("device gone", site.name);
      site.gone = true;
      site.life?.die();
    }),
  "device stopped": (world, draw) =>
    times(draw, 3, () => {
      const ms = 500 + draw.uniform() ** 2 * 25_000;
      once(world, draw, ({ name, life }) => {
        if (life === null) return;
        world.struck("device stopped", `${name} for ${Math.round(ms)} ms`);
        life.freeze();
        world.timeline.after(ms, () => life.thaw());
      });
    }),
  "device declines": (world, draw) => {
    const name = pick(draw, world.scenario.devices);
    const { mood } = world.site(name);
    const begin = () => {
      world.struck("device declines", name);
      mood.declines = true;
    };
    const end = () => {
      mood.declines = false;
    };
    during(world, draw, { mostMs: 8_000, begin, end });
  },
  "device slow": (world, draw) =>
    times(draw, 2, () => {
      const name = pick(draw, world.scenario.devices);
      world.struck("device slow", name);
      // A training is three or four steps: from well in time to beyond any deadline.
      world.site(name).mood.stepMs = 1_000 + draw.uniform() * 6_000;
    }),
  "clock step": (world, draw) =>
    times(draw, 3, () => {
      const ms = draw.uniform() < 0.5 ? HOUR_MS : -HOUR_MS;
      const coordinator = draw.uniform() < 0.5;
      once(world, draw, ({ name, wall }) => {
        const whose = coordinator ? world.wall : wall;
        world.struck("clock step", `${coordinator ? "coordinator" : name} by ${ms} ms`);
        whose.offsetMs += ms;
      });
    }),
  revoked: (world, draw) => {
    const fate = pick(draw, [null, null, "unknown", "failed"] as const);
    if (fate) world.snags.add({ who: "coordinator", what: "revoke", fate, left: 1 });
    times(draw, 2, () =>
      once(world, draw, ({ name }) => {
        world.struck("revoked", name);
        world.revoke(name);
      }),
    );
  },
  "stopped by its owner": (world, draw) =>
    times(draw, MOST_STOPS, () => world.timeline.after(at(draw, world), () => world.stopOne())),
  "activation unknown": (world, draw) =>
    times(draw, 2, () => {
      const who = pick(draw, world.scenario.devices);
      world.snags.add({ who, what: "writing the pointer", fate: "unknown", left: 1 + draw.below(4) });
    }),
  "device storage": (world, draw) => {
    world.deviceStorage = { failed: draw.uniform() * 0.04, unknown: draw.uniform() * 0.04, slowMs: 20 };
  },
};

/** Plans this seed's faults, and the calm after them. */
export function planFaults(world: World): void {
  const draw = world.scenario.chance.fork("faults");
  const kinds = draw.shuffle(Object.keys(FAULTS)).slice(0, 8 + draw.below(5));
  world.say("!", `faults: ${kinds.join(", ")}`);
  // A certificate that ends soon says something only of a round that is taken up after it.
  if (world.scenario.short.size > 0) kinds.push("killed in a sum");
  // And late updates something only of devices that are slow.
  if (world.scenario.plans.some(({ staleness }) => staleness)) kinds.push("device slow");
  for (const kind of new Set(kinds)) FAULTS[kind]!(world, draw.fork(kind));
  const rest = draw.fork("rest");
  world.timeline.after(world.scenario.calmMs - LAST_MS, () => unquiet(world, rest));
  world.timeline.after(world.scenario.calmMs, () => calm(world));
}

/** What can happen at any moment. */
const SURE: Readonly<Record<string, (world: World, site: Site) => void>> = {
  cut: (world, { name }) => {
    world.struck("cut", name);
    world.network.cut(name);
  },
  partition: (world, { name }) => {
    world.struck("partition", name);
    world.network.part(name, LAST_MS);
  },
  "clock step": (world, { name, wall }) => {
    world.struck("clock step", name);
    wall.offsetMs += HOUR_MS;
  },
  "device killed": (world, site) => kill(world, site, LAST_MS),
  "coordinator killed": (world) => {
    if (world.life === null) return;
    world.struck("coordinator killed");
    world.life.die();
  },
};

/** Where little of what was planned came about, some more does. */
function unquiet(world: World, draw: SeededRandom): void {
  for (const kind of draw.shuffle(Object.keys(SURE))) {
    if (world.strikes.size >= FEWEST_KINDS) return;
    if (!world.strikes.has(kind)) SURE[kind]!(world, world.site(pick(draw, world.scenario.devices)));
  }
}

/** Nothing more fails, and who can come back does. */
function calm(world: World): void {
  world.say("!", "calm");
  world.network.weather = CALM;
  world.storage = SOUND;
  world.deviceStorage = SOUND;
  world.snags.clear();
  for (const { name, mood } of world.sites.values()) {
    mood.declines = false;
    mood.stepMs = Math.min(mood.stepMs, 4_000);
    world.bootDevice(name);
  }
}
