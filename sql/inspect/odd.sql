-- Which rows look odd? Each of them may be right. No value is shown, because it may be a secret.
--
--   psql "$DATABASE_URL" -f sql/inspect/odd.sql
--
--  plugin |                                               odd
-- --------+-------------------------------------------------------------------------------------------------
--  Mail   | a key that sounds secret has a plain value: store {"$env": "NAME"} or {"$file": "PATH"} instead
--  Mail   | a reference is malformed: it is {"$env": "NAME"} or {"$file": "PATH"}, without other keys
--  Mail   | another name differs from this one only in case
--  mail   | another name differs from this one only in case
-- (4 rows)
SELECT plugin_name AS plugin, odd
  FROM plugin_config,
       LATERAL (VALUES
           (plugin_name ~ '^\s|\s$|[[:cntrl:]]',
            'the name starts or ends with a space, or holds a control character'),
           (EXISTS (SELECT FROM plugin_config AS other
                     WHERE lower(other.plugin_name) = lower(plugin_config.plugin_name)
                       AND other.plugin_name <> plugin_config.plugin_name),
            'another name differs from this one only in case'),
           (updated_at > clock_timestamp(),
            'updated_at is in the future: a clock was wrong'),
           (CASE status WHEN 'enabled' THEN enabled_at < disabled_at ELSE disabled_at < enabled_at END,
            'the stamps contradict the status: they were written by hand'),
           (pg_column_size(config) > 100000,
            'the config is larger than 100 kB: every process reads it at each change of the table'),
           (jsonb_path_exists(config, '$.** ? (@.type() == "object").keyvalue()
                ? (@.value.type() == "string"
                && @.key like_regex "passw|secret|token|(api|private|access)_?key|credential" flag "i")'),
            'a key that sounds secret has a plain value: store {"$env": "NAME"} or {"$file": "PATH"} instead'),
           (jsonb_path_exists(config, '$.** ? (exists(@."$env") || exists(@."$file"))
                ? (exists(@."$env") && exists(@."$file")
                || exists(@.keyvalue() ? (@.key <> "$env" && @.key <> "$file" || @.value.type() <> "string")))'),
            'a reference is malformed: it is {"$env": "NAME"} or {"$file": "PATH"}, without other keys')
       ) AS look (found, odd)
 WHERE found
 ORDER BY plugin_name, odd;
