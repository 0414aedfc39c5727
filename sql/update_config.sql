-- Take keys out of the stored config and lay others over it, top level only. The row is locked
-- and read again by the update itself, so writers of different keys all win.
INSERT INTO plugin_config AS stored (plugin_name, config)
VALUES (%(plugin_name)s, %(changes)s)
    ON CONFLICT (plugin_name) DO UPDATE
   SET config = (stored.config - %(remove)s::text[]) || excluded.config
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
