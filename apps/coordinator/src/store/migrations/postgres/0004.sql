-- Where a device is, by the authority's word; empty: nowhere in particular.
alter table devices add column site text not null default '';

create index devices_of_site on devices (site) where site <> '';

-- Devices that asked for a certificate that lasts longer, with what the authority signed since.
create table renewals (
  name text primary key not null references devices (name),
  request bytea not null,
  asked_ms bigint not null,
  granted bytea
);

-- What a coordinator keeps for devices, signed: who was revoked, which certificates it shows in TLS.
create table statements (
  kind text primary key not null,
  version bigint not null check (version > 0),
  envelope bytea not null
);
