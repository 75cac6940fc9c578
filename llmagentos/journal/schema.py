"""The tables of a journal, and what is read from several of them at once."""

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS rounds"
    " (round INTEGER PRIMARY KEY, state TEXT NOT NULL, members TEXT, report TEXT)",
    "CREATE TABLE IF NOT EXISTS answers"
    " (round INTEGER, kind TEXT, agent TEXT, body TEXT, squared_norm REAL, refused TEXT,"
    " PRIMARY KEY (round, kind, agent))",
    "CREATE TABLE IF NOT EXISTS asked"
    " (round INTEGER, kind TEXT, agent TEXT, since REAL, PRIMARY KEY (round, kind, agent))",
    # Admitted updates that no closed round has counted: they are counted in the order they came.
    "CREATE VIEW IF NOT EXISTS waiting AS"
    " SELECT rowid AS place, * FROM answers WHERE kind='fit' AND body IS NOT NULL ORDER BY rowid"
    " LIMIT -1 OFFSET (SELECT coalesce(sum(json_array_length(members)), 0) FROM rounds"
    " WHERE report IS NOT NULL)",
    # Fit tasks without an answer, in the order in which they were asked.
    "CREATE VIEW IF NOT EXISTS unanswered AS"
    " SELECT agent, round FROM asked WHERE kind='fit' AND NOT EXISTS (SELECT 1 FROM answers"
    " WHERE (round, kind, agent) = (asked.round, asked.kind, asked.agent)) ORDER BY rowid",
)

NEEDED = (
    "SELECT state FROM rounds WHERE round >= (SELECT min(round) FROM (SELECT max(round) AS round"
    " FROM rounds UNION SELECT round FROM unanswered UNION SELECT round FROM waiting))"
)
"""States from the oldest on that a task still begins from or an update still counts against."""
