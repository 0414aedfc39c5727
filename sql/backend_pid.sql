-- The server process of this session: another than the connection was told, if a pooler is in between.
SELECT pg_backend_pid()
