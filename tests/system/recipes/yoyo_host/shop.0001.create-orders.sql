-- The shop's own table. Its migrations and plugin_store's share yoyo's tables; their names differ.
CREATE TABLE orders (id bigint PRIMARY KEY);
