-- Devices that enrolled, by the name and the serial that the authority gave them.
create table devices (
  name text primary key not null,
  serial bytea not null unique,
  certificate bytea not null,
  revoked integer not null default 0 check (revoked in (0, 1)),
  added_ms bigint not null
);

-- Training efforts: the plan as its owner signed it, and the header that the last closed round left.
create table runs (
  run text primary key not null,
  name text not null,
  plan bytea not null,
  state text not null,
  header bytea not null,
  added_ms bigint not null unique
);

-- Every event of the round in progress. Replaying a run's entries in order gives the round's state again.
create table journal (
  run text not null references runs (run),
  seq integer not null check (seq >= 0),
  entry bytea not null,
  primary key (run, seq)
);

-- The running sum of the session in progress: one vector per run, whatever the number of devices.
create table sums (
  run text primary key not null references runs (run),
  session bytea not null,
  words bytea not null
);

create table releases (
  run text not null references runs (run),
  version integer not null check (version >= 0),
  digest text not null,
  envelope bytea not null,
  primary key (run, version)
);
