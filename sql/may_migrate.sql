-- Who migrates, and whether that role may create tables in the schema that comes first in its
-- search_path; the schema is null when none of those in the search_path exists. Last, whether the
-- session takes no writes.
SELECT current_user::text AS role,
       current_schema()::text AS schema,
       coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS allowed,
       current_setting('transaction_read_only')::boolean AS read_only
