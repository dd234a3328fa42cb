-- Running sums in pieces, each a statement of its own to write and to read, whatever a sum's size.
create table sum_pieces (
  run text not null references runs (run),
  cohort integer not null check (cohort >= 0),
  at integer not null check (at >= 0),
  words bytea not null,
  primary key (run, cohort, at)
);

insert into sum_pieces (run, cohort, at, words) select run, cohort, 0, words from sums;

drop table sums;

alter table sum_pieces rename to sums;

-- Masked words do not compress.
alter table sums alter column words set storage external;
