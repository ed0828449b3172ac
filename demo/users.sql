-- The demo's accounts. @PASSWORD@ is made anew for each run and kept in a file
-- that only its owner reads.

-- The exporter's: it may see the sessions, the replication state and the shop's rows; it can change nothing.
create user exporter@'%' identified by '@PASSWORD@';
grant process, replication client on *.* to exporter@'%';
grant select on shop.* to exporter@'%';

-- The load's: it may let time pass in the shop.
create user shop@'%' identified by '@PASSWORD@';
grant execute on shop.* to shop@'%';
