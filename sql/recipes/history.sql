-- Who changed which plugin, and when? Optional: triggers store each change of plugin_config in a second table, from
-- services, the command line and psql. Run this file as the owner of plugin_config. It can be run again.
--
--   psql "$DATABASE_URL" -f sql/recipes/history.sql
--
-- Who disabled analytics, and when? The column "what" also names deletes and truncates.
--
--   SELECT at, who, application, what
--     FROM plugin_config_history
--    WHERE name_before = 'analytics' AND status_before = 'enabled' AND status_after IS DISTINCT FROM 'enabled'
--    ORDER BY id DESC
--    LIMIT 1;
--
-- Services need no rights on the history, so they cannot change it. Auditors need SELECT:
--
--   GRANT SELECT ON plugin_config_history TO auditor;
--
-- The history grows by a row for each real change. Delete old rows. To stop it and keep its rows:
--
--   DROP FUNCTION plugin_config_remember() CASCADE;
BEGIN;

-- Everything is created in the schema of plugin_config. pg_temp is named last, because by default it is searched first.
-- Otherwise a writer could hide the history behind a temporary table of that name.
DO $schema$
BEGIN
    PERFORM set_config('search_path', relnamespace::regnamespace || ', pg_temp', true)
       FROM pg_class WHERE oid = 'plugin_config'::regclass;
END
$schema$;

CREATE TABLE IF NOT EXISTS plugin_config_history (
    id            bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    who           text        NOT NULL DEFAULT session_user,
    application   text        NOT NULL DEFAULT current_setting('application_name'),
    what          text        NOT NULL,
    name_before   text,
    name_after    text,
    status_before text,
    status_after  text,
    config_before jsonb,
    config_after  jsonb
);

CREATE INDEX IF NOT EXISTS plugin_config_history_name ON plugin_config_history (name_before, id);

-- SECURITY DEFINER: the function writes as the owner of the history, for every writer of plugin_config.
CREATE OR REPLACE FUNCTION plugin_config_remember() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path FROM CURRENT AS $remember$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO plugin_config_history (what, name_before, status_before, config_before)
        SELECT 'truncate', plugin_name, status, config FROM plugin_config;
    ELSE
        INSERT INTO plugin_config_history
               (what, name_before, name_after, status_before, status_after, config_before, config_after)
        VALUES (lower(TG_OP), OLD.plugin_name, NEW.plugin_name, OLD.status, NEW.status, OLD.config, NEW.config);
    END IF;
    RETURN NULL;
END
$remember$;

-- Otherwise other roles could attach the function to their own table and write false history. Existing triggers
-- run it for every role.
REVOKE EXECUTE ON FUNCTION plugin_config_remember() FROM PUBLIC;

CREATE OR REPLACE TRIGGER plugin_config_remember_rows
    AFTER INSERT OR DELETE ON plugin_config
    FOR EACH ROW EXECUTE FUNCTION plugin_config_remember();

CREATE OR REPLACE TRIGGER plugin_config_remember_update
    AFTER UPDATE ON plugin_config
    FOR EACH ROW
    WHEN ((OLD.plugin_name, OLD.status, OLD.config) IS DISTINCT FROM (NEW.plugin_name, NEW.status, NEW.config))
    EXECUTE FUNCTION plugin_config_remember();

-- BEFORE, because the rows are gone after a truncate.
CREATE OR REPLACE TRIGGER plugin_config_remember_truncate
    BEFORE TRUNCATE ON plugin_config
    FOR EACH STATEMENT EXECUTE FUNCTION plugin_config_remember();

COMMENT ON TABLE plugin_config_history IS
    'Each change of plugin_config: when, by which role and application, and what was before and after.';

COMMIT;
