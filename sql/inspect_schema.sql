-- Return a JSON object about plugin_config, as text: the schemas of the search_path that have it, and what the first
-- table lacks.
WITH found AS (
    SELECT position, nspname, pg_class.oid, relkind
      FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (schema, position)
      JOIN pg_namespace ON nspname = schema
      JOIN pg_class ON relnamespace = pg_namespace.oid
     WHERE relname = 'plugin_config'
), used AS (
    SELECT (SELECT oid FROM found ORDER BY position LIMIT 1) AS oid
), wanted (name, type, not_null, has_default) AS (
    VALUES ('id', 'uuid'::regtype, true, true),
           ('plugin_name', 'varchar', true, false),
           ('status', 'varchar', true, true),
           ('config', 'jsonb', true, true),
           ('enabled_at', 'timestamptz', false, false),
           ('disabled_at', 'timestamptz', false, false),
           ('created_at', 'timestamptz', true, true),
           ('updated_at', 'timestamptz', true, true)
)
SELECT json_build_object(
           'server_version', current_setting('server_version_num')::int,
           'creates_in', current_schema(),
           'role', current_user,
           'may_create', coalesce(
               has_schema_privilege(
                   coalesce((SELECT nspname FROM found ORDER BY position LIMIT 1), current_schema()), 'CREATE'
               ),
               false
           ),
           'read_only', current_setting('transaction_read_only')::boolean,
           'schemas', ARRAY(SELECT nspname FROM found ORDER BY position),
           'differences', ARRAY(
               SELECT 'it is not an ordinary table' FROM found WHERE found.oid = used.oid AND relkind <> 'r'
                UNION ALL
               SELECT coalesce('its column ' || name || ' is ' || atttypid::regtype || ', not ' || type,
                               'it has no column ' || name)
                 FROM wanted
                 LEFT JOIN pg_attribute ON attrelid = used.oid AND attname = name AND NOT attisdropped
                WHERE atttypid IS DISTINCT FROM type
                ORDER BY 1
           ),
           'missing_constraints', ARRAY(
               SELECT lost || ' of column ' || name
                 FROM wanted
                 JOIN pg_attribute ON attrelid = used.oid AND attname = name
                CROSS JOIN LATERAL (VALUES ('default', has_default AND NOT atthasdef),
                                           ('NOT NULL', not_null AND NOT attnotnull)) AS look (lost, found)
                WHERE found
                UNION ALL
               SELECT name
                 FROM unnest(ARRAY[
                          'plugin_config_pkey',
                          'plugin_config_plugin_name_key',
                          'plugin_config_plugin_name_not_empty',
                          'plugin_config_status_known',
                          'plugin_config_config_is_object',
                          'plugin_config_config_readable',
                          'plugin_config_times_readable'
                      ]) AS wanted (name)
                WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = used.oid AND conname = name)
           ),
           -- A trigger fires in ordinary sessions if it is enabled for the origin (O) or always (A).
           'idle_triggers', ARRAY(
               SELECT name
                 FROM unnest(ARRAY[
                          'plugin_config_stamp',
                          'plugin_config_notify_rows',
                          'plugin_config_notify_update',
                          'plugin_config_notify_truncate'
                      ]) AS wanted (name)
                WHERE NOT EXISTS (SELECT FROM pg_trigger
                                   WHERE tgrelid = used.oid AND tgname = name AND tgenabled IN ('O', 'A'))
           ),
           'row_security', coalesce(row_security_active(used.oid), false),
           'replication_role', current_setting('session_replication_role')
       )::text
  FROM used
