-- Delete a plugin's row and return its name. The config is not returned, so an unreadable row can be deleted.
-- If row-level security applies to the role, the division fails: see sql/README.md.
WITH deleted AS (
    DELETE FROM plugin_config
     WHERE plugin_name = %(plugin_name)s
    RETURNING plugin_name
)
SELECT plugin_name
  FROM deleted
UNION ALL
SELECT NULL
 WHERE 1 / (NOT row_security_active('plugin_config'))::int = 0
