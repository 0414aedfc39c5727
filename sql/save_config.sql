-- Replace the config and leave the status; a new row takes the column's default, disabled.
-- The statement sets updated_at itself, in case the stamp trigger is disabled.
-- If row-level security applies to the role, the division fails: see sql/README.md.
INSERT INTO plugin_config AS stored (plugin_name, config)
SELECT %(plugin_name)s::text, %(config)s::jsonb
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 1
    ON CONFLICT (plugin_name) DO UPDATE
   SET config = excluded.config,
       updated_at = greatest(clock_timestamp(), stored.updated_at + interval '1 microsecond')
RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
