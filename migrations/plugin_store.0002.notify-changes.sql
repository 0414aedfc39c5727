-- depends: plugin_store.0001.create-plugin-config
--
-- The table announces each change on the channel plugin_config, with the plugin's name as payload.
-- So edits in psql are announced too.
--
-- NOTIFY takes a lock at commit, so writers wait for each other (PostgreSQL manual, NOTIFY). So a
-- save that changes nothing is not announced.

CREATE OR REPLACE FUNCTION plugin_config_notify() RETURNS trigger LANGUAGE plpgsql AS $notify$
BEGIN
    -- A renamed plugin is announced under both names. Within a transaction the same payload is sent once.
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        PERFORM pg_notify('plugin_config', OLD.plugin_name);
    END IF;
    IF TG_OP IN ('UPDATE', 'INSERT') THEN
        PERFORM pg_notify('plugin_config', NEW.plugin_name);
    ELSIF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('plugin_config', '');
    END IF;
    RETURN NULL;
END
$notify$;

CREATE OR REPLACE TRIGGER plugin_config_notify_rows
    AFTER INSERT OR DELETE ON plugin_config
    FOR EACH ROW EXECUTE FUNCTION plugin_config_notify();

CREATE OR REPLACE TRIGGER plugin_config_notify_update
    AFTER UPDATE ON plugin_config
    FOR EACH ROW
    WHEN ((OLD.plugin_name, OLD.status, OLD.config) IS DISTINCT FROM (NEW.plugin_name, NEW.status, NEW.config))
    EXECUTE FUNCTION plugin_config_notify();

CREATE OR REPLACE TRIGGER plugin_config_notify_truncate
    AFTER TRUNCATE ON plugin_config
    FOR EACH STATEMENT EXECUTE FUNCTION plugin_config_notify();

COMMENT ON FUNCTION plugin_config_notify() IS
    'Announces changes of plugin_config on the channel plugin_config, with the plugin''s name as payload.';
