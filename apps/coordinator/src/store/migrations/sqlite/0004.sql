-- Where a device is, by the authority's word; empty: nowhere in particular.
alter table devices add column site text not null default '';

create index devices_of_site on devices (site) where site <> '';

-- Devices that asked for a certificate that lasts longer, with what the authority signed since.
create table renewals (
  name text primary key not null references devices (name),
  request blob not null,
  asked_ms integer not null,
  granted blob
) strict;

-- What a coordinator keeps for devices, signed: who was revoked, which certificates it shows in TLS.
create table statements (
  kind text primary key not null,
  version integer not null check (version > 0),
  envelope blob not null
) strict;
