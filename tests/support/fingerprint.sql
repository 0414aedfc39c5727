-- Tells a database that a test changed from a new one: for each catalog how many rows it has, and which transaction was
-- the last that wrote one. The rows of plugin_config do not count.
SELECT
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_attribute),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_class),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_constraint),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_default_acl),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_event_trigger),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_namespace),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_policy),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_proc),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_rewrite),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_trigger),
    (SELECT (count(*), max(xmin::text::bigint)) FROM pg_type),
    (SELECT (count(*), max(xmin::text::bigint)) FROM _yoyo_log),
    (SELECT (count(*), max(xmin::text::bigint)) FROM _yoyo_migration),
    (SELECT (count(*), max(xmin::text::bigint)) FROM _yoyo_version),
    (SELECT (count(*), max(xmin::text::bigint)) FROM yoyo_lock),
    (SELECT count(*) FROM pg_db_role_setting JOIN pg_database d ON setdatabase = d.oid WHERE datname = current_database()),
    (SELECT (datdba, datacl, datconnlimit, datallowconn)::text FROM pg_database WHERE datname = current_database());
