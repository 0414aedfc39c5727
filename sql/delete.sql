-- Forget a plugin. If there was a row, its name comes back. Its config does not, so an unreadable row can be deleted.
-- Row-level security that applies to the role makes the division fail: the rows that it hides would look deleted. The
-- division has no table, or PostgreSQL 18 would skip it with the rows.
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
