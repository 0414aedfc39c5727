-- Return the server process of this session. Behind a pooler, it differs from the one that the client received.
SELECT pg_backend_pid()
