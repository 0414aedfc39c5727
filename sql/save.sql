-- Create a plugin or set its status; a config of NULL keeps what is stored ({} on a new row).
-- Two first saves at once make one row: the later one updates it.
INSERT INTO plugin_config AS stored (plugin_name, status, config)
VALUES (%(plugin_name)s, %(status)s, coalesce(%(config)s::jsonb, '{}'))
    ON CONFLICT (plugin_name) DO UPDATE
   SET status = excluded.status,
       config = coalesce(%(config)s::jsonb, stored.config)
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
