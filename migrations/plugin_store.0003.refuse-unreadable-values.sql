-- depends: plugin_store.0002.notify-changes
--
-- The table refuses what Python cannot read: objects and lists nested deeper than 100 levels, numbers of more than
-- 4,300 digits, and timestamps that are infinite or outside the years 1 to 9999. Announcements name the schema,
-- to tell two tables in one database apart. Every statement can be repeated.

-- ADD CONSTRAINT does not name the rows that it refuses.
DO $check$
DECLARE
    names text;
BEGIN
    SELECT string_agg(quote_literal(plugin_name), ', ' ORDER BY plugin_name) INTO names
      FROM plugin_config
     WHERE jsonb_path_exists(config, 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")')
        OR jsonb_path_exists(config, 'strict $.** ? (@ >= 1e4300 || @ <= -1e4300)')
        OR NOT (enabled_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
                AND disabled_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
                AND created_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
                AND updated_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00');
    IF names IS NOT NULL THEN
        RAISE check_violation USING
            MESSAGE = 'Python cannot read these rows of plugin_config: ' || names,
            HINT = 'Their config is nested deeper than 100 levels or has a number of more than 4300 digits, or a '
                   'timestamp is infinite or outside the years 1 to 9999. Correct or delete them, then migrate again.';
    END IF;
END
$check$;

ALTER TABLE plugin_config
    DROP CONSTRAINT IF EXISTS plugin_config_config_readable,
    DROP CONSTRAINT IF EXISTS plugin_config_times_readable,
    -- Level 0 of a path is the config itself, so the containers at level 100 are the 101st.
    ADD CONSTRAINT plugin_config_config_readable CHECK (
        NOT jsonb_path_exists(config, 'strict $.**{100} ? (@.type() == "object" || @.type() == "array")')
        AND NOT jsonb_path_exists(config, 'strict $.** ? (@ >= 1e4300 || @ <= -1e4300)')
    ),
    ADD CONSTRAINT plugin_config_times_readable CHECK (
        enabled_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
        AND disabled_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
        AND created_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
        AND updated_at BETWEEN '0001-01-02 00:00+00' AND '9999-12-30 00:00+00'
    );

CREATE OR REPLACE FUNCTION plugin_config_notify() RETURNS trigger LANGUAGE plpgsql AS $notify$
BEGIN
    -- A renamed plugin is announced under both names. Within a transaction the same payload is sent once.
    IF TG_OP IN ('UPDATE', 'DELETE') THEN
        PERFORM pg_notify('plugin_config',
                          json_build_object('schema', TG_TABLE_SCHEMA, 'plugin', OLD.plugin_name)::text);
    END IF;
    IF TG_OP IN ('UPDATE', 'INSERT') THEN
        PERFORM pg_notify('plugin_config',
                          json_build_object('schema', TG_TABLE_SCHEMA, 'plugin', NEW.plugin_name)::text);
    ELSIF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('plugin_config', json_build_object('schema', TG_TABLE_SCHEMA, 'plugin', NULL)::text);
    END IF;
    RETURN NULL;
END
$notify$;

-- On a subscriber of logical replication only triggers that are enabled ALWAYS fire. Stamps come with the rows.
ALTER TABLE plugin_config
    ENABLE ALWAYS TRIGGER plugin_config_notify_rows,
    ENABLE ALWAYS TRIGGER plugin_config_notify_update,
    ENABLE ALWAYS TRIGGER plugin_config_notify_truncate;

COMMENT ON FUNCTION plugin_config_notify() IS
    'Announces changes of plugin_config on the channel plugin_config; the payload is a JSON object of schema and plugin.';
