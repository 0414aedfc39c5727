-- Return every enabled plugin, ordered by name.
-- If row-level security applies to the role, the division fails: see sql/README.md.
SELECT plugin_name, status, config, id, enabled_at, disabled_at, created_at, updated_at
  FROM plugin_config
 WHERE status = 'enabled'
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 0
 ORDER BY plugin_name
