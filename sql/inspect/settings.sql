-- List every setting as key and value. Objects and lists are split into their items.
--
--   psql "$DATABASE_URL" -f sql/inspect/settings.sql
--
--   plugin   |       key       |    value
-- -----------+-----------------+-------------
--  Mail      | api_key.$env    | 5
--  Mail      | token           | "plain"
--  analytics | window_minutes  | 15
--  mail      | api_key.$env    | "MAIL_KEY"
--  mail      | server.hosts[0] | "a.example"
--  mail      | server.hosts[1] | "b.example"
--  mail      | server.tags     | {}
-- (7 rows)
WITH RECURSIVE setting (plugin_name, key, value) AS (
    SELECT plugin_name, part.key, part.value
      FROM plugin_config, jsonb_each(config) AS part
     UNION ALL
    SELECT plugin_name, setting.key || part.step, part.value
      FROM setting,
           LATERAL (
               SELECT '.' || key, value
                 FROM jsonb_each(CASE jsonb_typeof(setting.value) WHEN 'object' THEN setting.value ELSE '{}' END)
                UNION ALL
               SELECT '[' || place - 1 || ']', value
                 FROM jsonb_array_elements(
                          CASE jsonb_typeof(setting.value) WHEN 'array' THEN setting.value ELSE '[]' END)
                      WITH ORDINALITY AS item (value, place)
           ) AS part (step, value)
)
SELECT plugin_name AS plugin, key, value
  FROM setting
 WHERE jsonb_typeof(value) NOT IN ('object', 'array') OR value IN ('{}', '[]')
 ORDER BY plugin_name, key COLLATE "C";
