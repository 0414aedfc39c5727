ALTER TABLE IF EXISTS plugin_config
    DROP CONSTRAINT IF EXISTS plugin_config_config_readable,
    DROP CONSTRAINT IF EXISTS plugin_config_times_readable;

-- The function of migration 0002. Its triggers stay enabled ALWAYS, which does no harm.
CREATE OR REPLACE FUNCTION plugin_config_notify() RETURNS trigger LANGUAGE plpgsql AS $notify$
BEGIN
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

COMMENT ON FUNCTION plugin_config_notify() IS
    'Announces changes of plugin_config on the channel plugin_config, with the plugin''s name as payload.';
