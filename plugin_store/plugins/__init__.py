"""The life cycle of plugins. Knows stores by their protocol only: no SQL, no psycopg."""
