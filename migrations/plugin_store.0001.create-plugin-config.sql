-- The one table of plugin_store, and the trigger that stamps its timestamps.
--
-- yoyo applies and records a migration in two transactions. If it is killed in between, it repeats
-- the statements. So every statement here can be repeated. No name has a schema: the search_path
-- of the connection decides where the table is created and found.

-- A second table, in an earlier schema of the search_path, would hide the one in use.
DO $one$
DECLARE
    used text := (SELECT relnamespace::regnamespace FROM pg_class WHERE oid = to_regclass('plugin_config'));
BEGIN
    IF used <> quote_ident(current_schema()) THEN
        RAISE duplicate_table USING
            MESSAGE = 'schema ' || used || ' has the table plugin_config, and one in schema '
                      || quote_ident(current_schema()) || ' would hide it',
            HINT = 'Set the search_path to the one schema that is to have the table.';
    END IF;
END
$one$;

CREATE TABLE IF NOT EXISTS plugin_config (
    id          uuid,
    -- COLLATE "C": one order on every machine, that of Python's sort, and no reindex when
    -- the operating system changes its locales.
    plugin_name varchar(100) COLLATE "C",
    status      varchar(20),
    config      jsonb,
    enabled_at  timestamptz,
    disabled_at timestamptz,
    created_at  timestamptz,
    updated_at  timestamptz
);

-- These are apart from CREATE TABLE to restore what a table lost, for example in a partial restore of a dump.
ALTER TABLE plugin_config
    ALTER id SET DEFAULT gen_random_uuid(),
    ALTER id SET NOT NULL,
    ALTER plugin_name SET NOT NULL,
    ALTER status SET DEFAULT 'disabled',
    ALTER status SET NOT NULL,
    ALTER config SET DEFAULT '{}',
    ALTER config SET NOT NULL,
    ALTER created_at SET DEFAULT now(),
    ALTER created_at SET NOT NULL,
    ALTER updated_at SET DEFAULT now(),
    ALTER updated_at SET NOT NULL,
    DROP CONSTRAINT IF EXISTS plugin_config_plugin_name_not_empty,
    DROP CONSTRAINT IF EXISTS plugin_config_status_known,
    DROP CONSTRAINT IF EXISTS plugin_config_config_is_object,
    ADD CONSTRAINT plugin_config_plugin_name_not_empty CHECK (plugin_name <> ''),
    ADD CONSTRAINT plugin_config_status_known CHECK (status IN ('enabled', 'disabled')),
    ADD CONSTRAINT plugin_config_config_is_object CHECK (jsonb_typeof(config) = 'object');

-- Keys are not dropped and added again, because other tables may refer to them.
DO $keys$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = 'plugin_config'::regclass AND conname = 'plugin_config_pkey') THEN
        ALTER TABLE plugin_config ADD CONSTRAINT plugin_config_pkey PRIMARY KEY (id);
    END IF;
    IF NOT EXISTS (SELECT FROM pg_constraint
                    WHERE conrelid = 'plugin_config'::regclass AND conname = 'plugin_config_plugin_name_key') THEN
        ALTER TABLE plugin_config ADD CONSTRAINT plugin_config_plugin_name_key UNIQUE (plugin_name);
    END IF;
END
$keys$;

CREATE OR REPLACE FUNCTION plugin_config_stamp() RETURNS trigger LANGUAGE plpgsql AS $stamp$
DECLARE
    stamp timestamptz;
BEGIN
    IF TG_OP = 'INSERT' THEN
        -- Given timestamps are kept, so that a restored dump keeps its history.
        IF NEW.status = 'enabled' THEN
            NEW.enabled_at := coalesce(NEW.enabled_at, NEW.updated_at);
        ELSE
            NEW.disabled_at := coalesce(NEW.disabled_at, NEW.updated_at);
        END IF;
        RETURN NEW;
    END IF;

    NEW.id := OLD.id;
    NEW.created_at := OLD.created_at;
    NEW.enabled_at := OLD.enabled_at;
    NEW.disabled_at := OLD.disabled_at;
    NEW.updated_at := OLD.updated_at;

    IF (NEW.plugin_name, NEW.status, NEW.config)
       IS DISTINCT FROM (OLD.plugin_name, OLD.status, OLD.config) THEN
        -- updated_at is the row's version, so it always increases, even if the clock goes back.
        stamp := greatest(clock_timestamp(), OLD.updated_at + interval '1 microsecond');
        NEW.updated_at := stamp;
        IF NEW.status IS DISTINCT FROM OLD.status THEN
            IF NEW.status = 'enabled' THEN
                NEW.enabled_at := stamp;
            ELSE
                NEW.disabled_at := stamp;
            END IF;
        END IF;
    END IF;
    RETURN NEW;
END
$stamp$;

CREATE OR REPLACE TRIGGER plugin_config_stamp
    BEFORE INSERT OR UPDATE ON plugin_config
    FOR EACH ROW EXECUTE FUNCTION plugin_config_stamp();

COMMENT ON FUNCTION plugin_config_stamp() IS
    'Stamps enabled_at, disabled_at and updated_at of plugin_config, and keeps id and created_at.';

COMMENT ON TABLE plugin_config IS
    'State and configuration of plugins, one row each (plugin_store). Running services follow this table; '
    'it may be edited by hand: UPDATE plugin_config SET status = ''disabled'' WHERE plugin_name = ''x''.';
COMMENT ON COLUMN plugin_config.id IS
    'Made once, never changes.';
COMMENT ON COLUMN plugin_config.plugin_name IS
    'The name that the plugin''s code gives in its metadata; unique.';
COMMENT ON COLUMN plugin_config.status IS
    'What the operator wants: enabled or disabled.';
COMMENT ON COLUMN plugin_config.config IS
    'The plugin''s settings, a JSON object; laid over the defaults in the plugin''s code, key by key.';
COMMENT ON COLUMN plugin_config.enabled_at IS
    'When status last became enabled; kept when it becomes disabled. Stamped by a trigger.';
COMMENT ON COLUMN plugin_config.disabled_at IS
    'When status last became disabled; kept when it becomes enabled. Stamped by a trigger.';
COMMENT ON COLUMN plugin_config.created_at IS
    'When the row was made; never changes.';
COMMENT ON COLUMN plugin_config.updated_at IS
    'When name, status or config last changed; grows with each change, so it is the version of the row. Stamped by a trigger.';
