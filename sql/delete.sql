-- Forget a plugin. If there was a row, its name comes back. Its config does not, so an unreadable row can be deleted.
-- Row-level security that applies to the role makes the division fail: the rows that it hides would look deleted.
DELETE FROM plugin_config
 WHERE plugin_name = %(plugin_name)s
   AND 1 / (NOT row_security_active('plugin_config'))::int = 1
RETURNING plugin_name
