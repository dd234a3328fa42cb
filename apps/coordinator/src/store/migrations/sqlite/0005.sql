-- What happened, each line with the hash of the one before it (libs/audit); the head is the last line's.
create table audit (
  seq integer primary key not null check (seq >= 0),
  line text not null
) strict;

create table audit_head (
  id integer primary key not null check (id = 1),
  entries integer not null,
  hash text not null
) strict;

insert into audit_head (id, entries, hash) values (1, 0, '');
