-- Which plugins are there, what is their status and since when, and which keys does the config of each have?
--
--   psql "$DATABASE_URL" -f sql/inspect/overview.sql
--
--   plugin   |  status  |         since          |   config keys
-- -----------+----------+------------------------+-----------------
--  Mail      | disabled | 2026-11-20 18:33:50+00 | api_key, token
--  analytics | enabled  | 2026-11-22 17:33:50+00 | window_minutes
--  mail      | enabled  | 2026-11-22 16:33:50+00 | api_key, server
-- (3 rows)
SELECT plugin_name AS plugin,
       status,
       date_trunc('second', CASE status WHEN 'enabled' THEN enabled_at ELSE disabled_at END) AS since,
       (SELECT string_agg(key, ', ' ORDER BY key) FROM jsonb_object_keys(config) AS key) AS "config keys"
  FROM plugin_config
 ORDER BY plugin_name;
