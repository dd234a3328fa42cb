-- Who leads, in one row: nothing is written for another epoch than this. Times are the database's own clock.
-- The epoch is a key, so that a renewal, which leaves it alone, need not wait for transactions that read it.
create table lease (
  id integer primary key not null check (id = 1),
  epoch bigint not null unique,
  holder text not null,
  address text not null,
  renewals bigint not null,
  until_ms bigint not null
);

insert into lease (id, epoch, holder, address, renewals, until_ms) values (1, 0, '', '', 0, 0);

-- Every epoch that there was, and who led in it.
create table epochs (
  epoch bigint primary key not null,
  holder text not null,
  address text not null,
  since_ms bigint not null
);

-- The epoch whose leader wrote it.
alter table journal add column epoch bigint not null default 0;

alter table releases add column epoch bigint not null default 0;
