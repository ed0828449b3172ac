# Sourced by the entrypoint of the mysql image: the exporter's account, with no more than it needs.
# The password comes from the same secret file that the exporter reads; doubling ' makes it an SQL string.
password=$(sed "s/'/''/g; s/\\\\/\\\\\\\\/g" /run/secrets/exporter_password)
docker_process_sql <<SQL
create user exporter@'%' identified by '$password' with max_user_connections 10;
-- The sessions of others, and the state of replication.
grant process, replication client on *.* to exporter@'%';
grant select on performance_schema.* to exporter@'%';
grant select on shop.* to exporter@'%';
SQL
