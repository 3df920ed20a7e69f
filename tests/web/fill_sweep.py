"""Gives every queued trial of a sweep an accepted result, in the database of a stopped coordinator (no sweep of that size could be run
by a test): fill_sweep.py DATABASE SWEEP. Scores are a fixed function of the trial's number, one trial in a thousand has failed."""
import sqlite3
import sys

database, sweep = sys.argv[1:]
db = sqlite3.connect(database)
(key,) = db.execute("SELECT sweep_key FROM sweeps WHERE sweep_id = ?", (sweep,)).fetchone()
with db:
    db.execute("""INSERT INTO attempts (sweep_key, trial_index, epoch, token_sha256, worker, session, start_time_us, end_time_us, outcome,
                  failure_class, failure_message)
                  SELECT sweep_key, trial_index, 1, 'x', 'filled-' || (trial_index % 8), 's', 1700000000000000 + trial_index * 1000000,
                         1700000000000000 + trial_index * 1000000 + 8000000, iif(trial_index % 1000 = 999, 2, 1),
                         iif(trial_index % 1000 = 999, 3, NULL), iif(trial_index % 1000 = 999, 'the loss is NaN', NULL)
                  FROM trials WHERE sweep_key = ?""", (key,))
    db.execute("""INSERT INTO results (sweep_key, trial_index, epoch, digest, train_seconds, total_seconds, provenance, accept_time_us)
                  SELECT sweep_key, trial_index, 1, trial_index, 7, 8, '{}', 1700000008000000 + trial_index * 1000000
                  FROM trials WHERE sweep_key = ? AND trial_index % 1000 <> 999""", (key,))
    for name, scale in (("clip_i", 0.5), ("clip_t", 0.2), ("clip_fid", 900.0), ("clip_kid", 0.03)):
        # The cell's own value, and noise by a linear congruence.
        db.execute("""INSERT INTO scores (sweep_key, trial_index, name, value)
                      SELECT r.sweep_key, r.trial_index, ?, ? * (1 + 0.3 * (t.cell_index % 601) / 601.0 + ((r.trial_index * 7919) % 1009) / 5045.0)
                      FROM results AS r JOIN trials AS t USING (sweep_key, trial_index) WHERE r.sweep_key = ?""", (name, scale, key))
    db.execute("UPDATE trials SET epoch = 1, state = iif(trial_index % 1000 = 999, 4, 3), failed_attempts = trial_index % 1000 = 999, "
               "failure_class = iif(trial_index % 1000 = 999, 3, NULL), "
               "failure_message = iif(trial_index % 1000 = 999, 'the loss is NaN', NULL) WHERE sweep_key = ?", (key,))
