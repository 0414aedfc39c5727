-- Make this transaction find and create tables in one schema only.
SELECT set_config('search_path', quote_ident(%(schema)s), true)
