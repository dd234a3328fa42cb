-- The running sums of the round in progress: one vector per cohort, whatever the number of devices.
create table cohort_sums (
  run text not null references runs (run),
  cohort integer not null check (cohort >= 0),
  words bytea not null,
  primary key (run, cohort)
);

insert into cohort_sums (run, cohort, words) select run, 0, words from sums;

drop table sums;

alter table cohort_sums rename to sums;
