-- Create a plugin, or set its status and merge the config's keys over the stored ones, top level only.
-- Two first saves at once make one row: the later one updates it.
INSERT INTO plugin_config AS stored (plugin_name, status, config)
VALUES (%(plugin_name)s, %(status)s, %(config)s)
    ON CONFLICT (plugin_name) DO UPDATE
   SET status = excluded.status,
       config = stored.config || excluded.config
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
