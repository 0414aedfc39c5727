-- Replace the config and leave the status; a new row takes the column's default, disabled.
INSERT INTO plugin_config (plugin_name, config)
VALUES (%(plugin_name)s, %(config)s)
    ON CONFLICT (plugin_name) DO UPDATE
   SET config = excluded.config
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
