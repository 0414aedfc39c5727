-- Show every column of one plugin.
--
--   psql "$DATABASE_URL" -v plugin=mail -f sql/inspect/plugin.sql
--
-- -[ RECORD 1 ]-------------------------------------
-- plugin      | mail
-- status      | enabled
-- config      | {                                   +
--             |     "server": {                     +
--             |         "tags": {                   +
--             |         },                          +
--             |         "hosts": [                  +
--             |             "a.example",            +
--             |             "b.example"             +
--             |         ]                           +
--             |     },                              +
--             |     "api_key": {                    +
--             |         "$env": "MAIL_KEY"          +
--             |     }                               +
--             | }
-- enabled_at  | 2026-11-22 16:33:50.357075+00
-- disabled_at |
-- created_at  | 2026-11-19 18:33:50.357075+00
-- updated_at  | 2026-11-22 16:33:50.357075+00
-- id          | cdba4a98-d495-42c7-99e2-5498126b92c2
\if :{?plugin}
\else
    \warn 'say which plugin: psql -v plugin=NAME -f plugin.sql'
    \quit
\endif
SELECT plugin_name AS plugin,
       status,
       jsonb_pretty(config) AS config,
       enabled_at,
       disabled_at,
       created_at,
       updated_at,
       id
  FROM plugin_config
 WHERE plugin_name = :'plugin' \gx
