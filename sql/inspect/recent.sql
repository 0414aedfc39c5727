-- What changed within the last day? The latest comes first. The table keeps only the last change of each plugin.
-- sql/recipes/history.sql keeps all changes and their authors.
--
--   psql "$DATABASE_URL" -f sql/inspect/recent.sql
--
--         changed         |  plugin   |  what   | status
-- ------------------------+-----------+---------+---------
--  2026-11-22 17:33:50+00 | analytics | created | enabled
--  2026-11-22 16:33:50+00 | mail      | enabled | enabled
-- (2 rows)
SELECT date_trunc('second', updated_at) AS changed,
       plugin_name AS plugin,
       CASE updated_at WHEN created_at THEN 'created' WHEN enabled_at THEN 'enabled' WHEN disabled_at THEN 'disabled'
                       ELSE 'config or name' END AS what,
       status
  FROM plugin_config
 WHERE updated_at > now() - interval '1 day'
 ORDER BY updated_at DESC, plugin_name;
