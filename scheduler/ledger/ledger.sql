-- Every statement of the ledger, by name. Instants are nanoseconds since the epoch.

-- name: schema
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    latest INTEGER,  -- newest due on record
    success INTEGER,  -- when a run of it last completed, backfills apart
    accounted INTEGER  -- newest due that the clock made, to the end of its stretch
);
CREATE TABLE calendars (id INTEGER PRIMARY KEY, version TEXT NOT NULL UNIQUE);
-- By due first: new rows arrive in that order, so that a commit touches the last pages only. By task
-- first, each row of ten thousand tasks would touch a page of its own.
CREATE TABLE runs (
    due INTEGER NOT NULL,
    task INTEGER NOT NULL REFERENCES tasks,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    started INTEGER,
    ended INTEGER,
    error TEXT NOT NULL,
    count INTEGER NOT NULL,  -- more than 1: a stretch of runs, from due to last_due
    last_due INTEGER,
    cause TEXT NOT NULL,
    calendar INTEGER REFERENCES calendars,
    PRIMARY KEY (due, task, attempt)
) WITHOUT ROWID;
CREATE INDEX unfinished ON runs (status) WHERE status IN ('queued', 'running');
CREATE INDEX stretches ON runs (last_due) WHERE last_due IS NOT NULL;
-- `latest`, `accounted` and `success` of every task reflect all rows due before this; later rows are looked through.
CREATE TABLE settled (due INTEGER NOT NULL);
INSERT INTO settled VALUES (0);
-- When the ledger expects runs of a task, and by which definition.
CREATE TABLE definitions (
    task TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    fingerprint TEXT NOT NULL REFERENCES definition_texts,
    calendar TEXT NOT NULL,
    PRIMARY KEY (task, since)
) WITHOUT ROWID;
CREATE TABLE definition_texts (fingerprint TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE state (
    task TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (task, key)
) WITHOUT ROWID;

-- name: add_success
ALTER TABLE tasks ADD COLUMN success INTEGER;

-- name: find_success
UPDATE tasks SET success = (
    SELECT max(ended) FROM runs
    WHERE runs.task = tasks.id AND status = 'completed' AND due < (SELECT due FROM settled)
);

-- name: add_acts
-- What operators did; also what brings a file of schema 1 to schema 2.
CREATE TABLE acts (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    task TEXT NOT NULL,  -- empty where it is about the whole
    reason TEXT NOT NULL,
    detail TEXT NOT NULL  -- JSON
);

-- name: write_run
INSERT OR REPLACE INTO runs
    (due, task, attempt, status, reason, started, ended, error, count, last_due, cause, calendar)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: begun
DELETE FROM runs WHERE due = ? AND task = ? AND attempt = 0 AND status = 'queued';

-- name: write_plain_runs
-- Completed at the first attempt, nothing to remark: nearly all rows. Many at a time, with the little that
-- differs, they cost less than half.
INSERT OR REPLACE INTO runs
    (due, task, attempt, status, reason, started, ended, error, count, last_due, cause, calendar)
VALUES {rows};

-- name: plain_run
(?, ?, 1, 'completed', '', ?, ?, '', 1, NULL, 'tick', ?)

-- name: add_task
INSERT INTO tasks (id, name) VALUES (?, ?);

-- name: add_calendar
INSERT INTO calendars (id, version) VALUES (?, ?);

-- name: settle_row
UPDATE tasks SET latest = max(coalesce(latest, :due), :due),
    accounted = CASE WHEN :clock_driven THEN max(coalesce(accounted, :reach), :reach) ELSE accounted END,
    success = max(coalesce(success, :success), coalesce(:success, success))
WHERE id = :task;

-- name: settle_all
UPDATE tasks SET latest = max(coalesce(tasks.latest, recent.latest), recent.latest),
    accounted = max(coalesce(tasks.accounted, recent.accounted), coalesce(recent.accounted, tasks.accounted)),
    success = max(coalesce(tasks.success, recent.success), coalesce(recent.success, tasks.success))
FROM (
    SELECT task, max(due) AS latest,
        max(CASE WHEN cause IN ('tick', 'catch-up', 'retry') THEN coalesce(last_due, due) END) AS accounted,
        max(CASE WHEN status = 'completed' AND cause <> 'backfill' THEN ended END) AS success
    FROM runs WHERE due >= (SELECT due FROM settled) GROUP BY task
) AS recent
WHERE tasks.id = recent.task;

-- name: move_settled
UPDATE settled SET due = max(due, coalesce((SELECT max(due) FROM runs), 0));

-- name: settled
SELECT due FROM settled;

-- name: unfinished
SELECT tasks.name, due, attempt, status, reason, started, ended, error, count, last_due, cause,
    coalesce(calendars.version, '')
FROM runs JOIN tasks ON tasks.id = runs.task LEFT JOIN calendars ON calendars.id = runs.calendar
WHERE status IN ('queued', 'running')
ORDER BY due, attempt;

-- name: under_way_then
SELECT tasks.name, due, attempt, status, reason, started, ended, error, count, last_due, cause,
    coalesce(calendars.version, '')
FROM runs JOIN tasks ON tasks.id = runs.task LEFT JOIN calendars ON calendars.id = runs.calendar
WHERE tasks.name = :task AND due <= :at AND started <= :at AND ended > :at
ORDER BY due DESC, attempt DESC LIMIT 1;

-- name: watermarks
WITH newest AS (
    SELECT id, max(latest) AS latest, max(accounted) AS accounted, max(success) AS success FROM (
        SELECT id, latest, accounted, success FROM tasks
        UNION ALL
        SELECT task, max(due),
            max(CASE WHEN cause IN ('tick', 'catch-up', 'retry') THEN coalesce(last_due, due) END),
            max(CASE WHEN status = 'completed' AND cause <> 'backfill' THEN ended END)
        FROM runs WHERE due >= (SELECT due FROM settled) GROUP BY task
    ) GROUP BY id
)
SELECT newest.accounted, newest.success, name, due, attempt, status, reason, started, ended, error, count, last_due, cause,
    coalesce(calendars.version, '')
FROM newest JOIN tasks USING (id)
LEFT JOIN runs ON runs.due = newest.latest AND runs.task = newest.id
LEFT JOIN calendars ON calendars.id = runs.calendar
ORDER BY attempt;

-- name: attempts
SELECT coalesce(max(attempt), 0) FROM runs JOIN tasks ON tasks.id = runs.task WHERE due = ? AND name = ?;

-- name: keep_definition_text
INSERT INTO definition_texts VALUES (:fingerprint, :text) ON CONFLICT DO NOTHING;

-- name: end_other_definition
UPDATE definitions SET until = max(since, :at)
WHERE task = :task AND until IS NULL AND (fingerprint <> :fingerprint OR calendar <> :calendar);

-- name: begin_definition
INSERT INTO definitions (task, since, fingerprint, calendar)
SELECT :task, :at, :fingerprint, :calendar
WHERE NOT EXISTS (SELECT 1 FROM definitions WHERE task = :task AND until IS NULL)
ON CONFLICT DO UPDATE SET until = NULL, fingerprint = excluded.fingerprint, calendar = excluded.calendar;

-- name: end_definition
UPDATE definitions SET until = max(since, :at) WHERE task = :task AND until IS NULL;

-- name: definitions
SELECT task, since, until, fingerprint FROM definitions ORDER BY task, since;

-- name: set_state
INSERT INTO state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value;

-- name: delete_state
DELETE FROM state WHERE task = ? AND key = ?;

-- name: states
SELECT task, key, value FROM state;

-- name: add_act
INSERT INTO acts (at, who, action, task, reason, detail)
VALUES (:at, :who, :action, :task, :reason, :detail);

-- name: acts
SELECT at, who, action, task, reason, detail FROM acts ORDER BY number DESC;

-- name: prune_acts
DELETE FROM acts WHERE at < ?;

-- name: older_key
SELECT due, task, attempt FROM runs WHERE (due, task, attempt) <= (?, ?, ?)
ORDER BY due DESC, task DESC, attempt DESC LIMIT 1 OFFSET ?;

-- name: newer_key
SELECT due, task, attempt FROM (
    SELECT due, task, attempt FROM runs WHERE (due, task, attempt) > (?, ?, ?) AND due < ?
    ORDER BY due, task, attempt LIMIT ?
) ORDER BY due DESC, task DESC, attempt DESC LIMIT 1;

-- name: prune_slice
DELETE FROM runs
WHERE (due, task, attempt) > (?, ?, ?) AND (due, task, attempt) <= (?, ?, ?)
    AND status NOT IN ('queued', 'running')
    AND due < (SELECT latest FROM tasks WHERE id = runs.task)
    AND coalesce(last_due, due) < coalesce((SELECT accounted FROM tasks WHERE id = runs.task), 1 << 62);

-- name: prune_definitions
DELETE FROM definitions WHERE until < ?;

-- name: history
SELECT due, runs.task, attempt, tasks.name, status, reason, started, ended, error, count, last_due, cause,
    coalesce(calendars.version, '')
FROM runs JOIN tasks ON tasks.id = runs.task LEFT JOIN calendars ON calendars.id = runs.calendar
WHERE (due, runs.task, attempt) > (:due, :task, :attempt) AND due < :until
    AND (:names IS NULL OR tasks.name IN (SELECT value FROM json_each(:names)))
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
ORDER BY due, runs.task, attempt LIMIT :page;

-- name: history_newest_first
SELECT due, runs.task, attempt, tasks.name, status, reason, started, ended, error, count, last_due, cause,
    coalesce(calendars.version, '')
FROM runs JOIN tasks ON tasks.id = runs.task LEFT JOIN calendars ON calendars.id = runs.calendar
WHERE (due, runs.task, attempt) < (:due, :task, :attempt) AND due >= :since
    AND (:names IS NULL OR tasks.name IN (SELECT value FROM json_each(:names)))
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
ORDER BY due DESC, runs.task DESC, attempt DESC LIMIT :page;

-- name: stretches_into
SELECT due, runs.task, attempt, tasks.name, status, reason, started, ended, error, count, last_due, cause,
    coalesce(calendars.version, '')
FROM runs JOIN tasks ON tasks.id = runs.task LEFT JOIN calendars ON calendars.id = runs.calendar
WHERE last_due >= :since AND due < :since AND due < :until
    AND (:names IS NULL OR tasks.name IN (SELECT value FROM json_each(:names)))
    AND (:statuses IS NULL OR status IN (SELECT value FROM json_each(:statuses)))
ORDER BY due, runs.task, attempt;

-- name: dues_of_task
-- What became of the dues of one task that were no operator's, nor an event's.
SELECT due, max(attempt), max(status = 'completed'), max(count), max(coalesce(last_due, due))
FROM runs JOIN tasks ON tasks.id = runs.task
WHERE due < :until AND coalesce(last_due, due) >= :since AND tasks.name = :task
    AND cause NOT IN ('manual', 'event')
GROUP BY due;

-- name: definitions_of_task
SELECT min(since), max(since) FROM definitions WHERE task = ?;

-- name: timeline_begun_before
-- What was due more than a day before :since and still runs, and stretches from then that reach into the time:
-- by their small indexes.
SELECT tasks.name, due, attempt, status, reason, count, coalesce(started, due) AS began, over
FROM (
    SELECT due, task, attempt, status, reason, count, started, NULL AS over
    FROM runs INDEXED BY unfinished WHERE status IN ('queued', 'running')
    UNION ALL
    SELECT due, task, attempt, status, reason, count, started, last_due
    FROM runs INDEXED BY stretches WHERE last_due >= :since
) AS found JOIN tasks ON tasks.id = found.task
WHERE due < :since - 86400000000000 AND began < :until
ORDER BY due, found.task, attempt;

-- name: timeline
-- What ran, or was due, between :since and :until. What was due up to a day before may still have run.
-- What was backfilled is where it was due: that is the day which it completes.
SELECT tasks.name, due, attempt, status, reason, count,
    CASE WHEN cause = 'backfill' THEN due ELSE coalesce(started, due) END AS began,
    CASE WHEN status IN ('queued', 'running') THEN NULL WHEN cause = 'backfill' THEN due
        ELSE coalesce(last_due, ended, started, due) END AS over
FROM runs JOIN tasks ON tasks.id = runs.task
WHERE due >= :since - 86400000000000 AND due < :until
    AND began < :until AND (over IS NULL OR over >= :since)
ORDER BY due, runs.task, attempt;

-- name: durations
SELECT due, runs.task, attempt, tasks.name, ended - started FROM runs JOIN tasks ON tasks.id = runs.task
WHERE (due, runs.task, attempt) < (?, ?, ?) AND status = 'completed' AND ended >= started
    AND tasks.name IN (SELECT value FROM json_each(?))
ORDER BY due DESC, runs.task DESC, attempt DESC LIMIT ?;

-- name: plain_outcomes
-- In the order of the key, so that the inner groups need no sorting.
SELECT tasks.name, count(*) FROM (
    SELECT due, task, max(count) > 1 OR max(cause IN ('manual', 'event')) AS odd
    FROM runs
    WHERE due >= :since AND due < :until AND status NOT IN ('queued', 'running')
    GROUP BY due, task
) AS outcomes JOIN tasks ON tasks.id = outcomes.task
GROUP BY outcomes.task HAVING max(odd) = 0;

-- name: outcomes
SELECT tasks.name, due, last_due FROM runs JOIN tasks ON tasks.id = runs.task
WHERE ((due >= :since AND due < :until) OR (last_due >= :since AND due < :since))
    AND tasks.name IN (SELECT value FROM json_each(:names))
    AND status IN (SELECT value FROM json_each(:statuses));
