-- Create the row if there is none, and return the stored row. If the row exists, an update that changes nothing returns
-- it: DO NOTHING would not return a row that another transaction has just created.
-- If row-level security applies to the role, the division fails: see sql/README.md.
INSERT INTO plugin_config AS stored (plugin_name, status, config)
SELECT %(plugin_name)s::text, %(status)s::text, %(config)s::jsonb
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 1
    ON CONFLICT (plugin_name) DO UPDATE
   SET plugin_name = stored.plugin_name
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
