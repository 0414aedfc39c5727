-- Return every stored plugin, ordered by name. The column's collation makes this the order of Python's sort.
-- If row-level security applies to the role, the division fails: see sql/README.md.
SELECT plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
  FROM plugin_config
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 0
 ORDER BY plugin_name
