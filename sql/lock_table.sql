-- Block all other writers until the transaction ends. Readers are not blocked.
LOCK TABLE plugin_config IN SHARE ROW EXCLUSIVE MODE
