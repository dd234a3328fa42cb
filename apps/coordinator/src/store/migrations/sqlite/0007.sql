-- What rounds came to that a run's header no longer holds: it keeps the newest, and is written at every close.
create table history (
  run text not null references runs (run),
  at integer not null check (at >= 0),
  record blob not null,
  primary key (run, at)
) strict, without rowid;

-- Artifacts that a run's rounds made, with the round that began when each was last put; retention removes them.
create table files (
  run text not null references runs (run),
  sha256 text not null,
  kind text not null check (kind in ('adapter', 'evidence')),
  round integer not null check (round >= 0),
  primary key (run, sha256)
) strict, without rowid;

create index files_by_name on files (sha256);
