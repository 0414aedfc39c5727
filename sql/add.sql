-- Make the row if there is none; either way, return the row that is stored. DO NOTHING would
-- return no row for one that another transaction has just made, hence an update that changes nothing.
INSERT INTO plugin_config AS stored (plugin_name, status, config)
VALUES (%(plugin_name)s, %(status)s, %(config)s)
    ON CONFLICT (plugin_name) DO UPDATE
   SET plugin_name = stored.plugin_name
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
