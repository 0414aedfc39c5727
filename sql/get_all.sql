-- Every stored plugin, by name. The column's collation makes this the order of Python's sort.
-- Row-level security that applies to the role makes the division fail: the rows that it hides would look deleted. The
-- division has no table, or PostgreSQL 18 would skip it with the rows.
SELECT plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
  FROM plugin_config
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 0
 ORDER BY plugin_name
