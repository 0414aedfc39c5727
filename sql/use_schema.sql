-- Let this transaction see and make tables in one schema only.
SELECT set_config('search_path', quote_ident(%(schema)s), true)
