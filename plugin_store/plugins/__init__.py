"""The life cycle of plugins. Uses stores through their protocol only, without SQL or psycopg."""
