-- Replace the config if the row still has the version that the caller read. If the row has changed or is gone, no row
-- is returned. The statement sets updated_at itself, in case the stamp trigger is disabled.
-- If row-level security applies to the role, the division fails: see sql/README.md.
WITH written AS (
    UPDATE plugin_config
       SET config = %(config)s::jsonb,
           updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
     WHERE plugin_name = %(plugin_name)s
       AND updated_at = %(expected_updated_at)s::timestamptz
    RETURNING plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
)
SELECT plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
  FROM written
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 0
