-- Make the row if there is none. Either way, return the row that is stored. DO NOTHING would return no row for one
-- that another transaction has just made, hence an update that changes nothing.
-- Row-level security that applies to the role makes the division fail: the rows that it hides would look deleted.
INSERT INTO plugin_config AS stored (plugin_name, status, config)
SELECT %(plugin_name)s::text, %(status)s::text, %(config)s::jsonb
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 1
    ON CONFLICT (plugin_name) DO UPDATE
   SET plugin_name = stored.plugin_name
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
