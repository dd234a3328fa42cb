-- Which devices a run ever invited; in how many of its rounds each gave a vector, last in which and when.
create table participations (
  run text not null references runs (run),
  device text not null,
  rounds integer not null check (rounds >= 0),
  last_round integer not null,
  last_ms integer not null,
  primary key (run, device)
) strict, without rowid;
