-- Creates three roles for plugin_store, each with the fewest rights that it needs:
--
--   owner    migrates: may create in the schema, and owns the objects of the migrations
--   service  reads and writes rows, and follows them (LISTEN needs no grant)
--   reader   reads and follows rows: `plugin-store list`, `show` and `watch`, dashboards
--
-- Run it as a superuser, migrate as the owner, then run it once more to grant the table. It can be run again at any
-- time. If another role has migrated the table, the owner becomes its owner:
--
--   psql "$DATABASE_URL" -v owner=plugins_owner -v service=plugins_service -v reader=plugins_reader -f grants.sql
--
-- The roles may log in. Give them passwords (\password plugins_owner). The schema is the one in which the search_path
-- finds the table. Without a table, it is the first schema of the search_path that exists.
\set ON_ERROR_STOP on
\set QUIET on
BEGIN;

SELECT format('CREATE ROLE %I LOGIN', name)
  FROM unnest(ARRAY[:'owner', :'service', :'reader']) AS wanted (name)
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)
\gexec

SELECT coalesce(nspname, current_schema()) AS schema,
       current_database() AS database,
       nspname IS NOT NULL AS migrated
  FROM (SELECT to_regclass('plugin_config') AS found) AS looked
  LEFT JOIN pg_class ON pg_class.oid = found
  LEFT JOIN pg_namespace ON pg_namespace.oid = relnamespace
\gset
GRANT CONNECT ON DATABASE :"database" TO :"owner", :"service", :"reader";
GRANT USAGE ON SCHEMA :"schema" TO :"owner", :"service", :"reader";
GRANT CREATE ON SCHEMA :"schema" TO :"owner";

-- In this database, each role finds the table in this schema alone: no other schema can hide it later.
ALTER ROLE :"owner" IN DATABASE :"database" SET search_path = :"schema";
ALTER ROLE :"reader" IN DATABASE :"database" SET search_path = :"schema";
ALTER ROLE :"service" IN DATABASE :"database" SET search_path = :"schema";
-- A service that meets another transaction's lock fails after five seconds, with an error that says so.
ALTER ROLE :"service" IN DATABASE :"database" SET lock_timeout = '5s';
ALTER ROLE :"service" IN DATABASE :"database" SET statement_timeout = '15s';

-- The table, what yoyo keeps beside it, and the functions of the triggers.
SELECT format('ALTER TABLE %s OWNER TO %I', oid::regclass, :'owner')
  FROM pg_class
 WHERE relnamespace = quote_ident(:'schema')::regnamespace
   AND relname IN ('plugin_config', '_yoyo_log', '_yoyo_migration', '_yoyo_version', 'yoyo_lock')
 UNION ALL
SELECT format('ALTER FUNCTION %s OWNER TO %I', oid::regprocedure, :'owner')
  FROM pg_proc
 WHERE pronamespace = quote_ident(:'schema')::regnamespace
   AND proname IN ('plugin_config_stamp', 'plugin_config_notify')
\gexec

\if :migrated
    REVOKE ALL ON plugin_config FROM PUBLIC, :"service", :"reader";
    GRANT SELECT, INSERT, UPDATE, DELETE ON plugin_config TO :"service";
    GRANT SELECT ON plugin_config TO :"reader";
    COMMIT;
    \echo the roles are ready
\else
    COMMIT;
    \echo the roles are created, but there is no table plugin_config yet: migrate as the owner, then run this again
\endif
