-- Who leads, in one row: nothing is written for another epoch than this. Times are the database's own clock.
create table lease (
  id integer primary key not null check (id = 1),
  epoch integer not null unique,
  holder text not null,
  address text not null,
  renewals integer not null,
  until_ms integer not null
) strict;

insert into lease (id, epoch, holder, address, renewals, until_ms) values (1, 0, '', '', 0, 0);

-- Every epoch that there was, and who led in it.
create table epochs (
  epoch integer primary key not null,
  holder text not null,
  address text not null,
  since_ms integer not null
) strict;

-- The epoch whose leader wrote it.
alter table journal add column epoch integer not null default 0;

alter table releases add column epoch integer not null default 0;
