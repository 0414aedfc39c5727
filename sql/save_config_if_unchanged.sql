-- Replace the config only of the version that the caller has read. If the plugin has changed since, or is gone, no row
-- comes back. The version moves even where the trigger that stamps it is disabled.
-- Row-level security that applies to the role makes the division fail: the rows that it hides would look deleted. The
-- division has no table, or PostgreSQL 18 would skip it with the rows.
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
