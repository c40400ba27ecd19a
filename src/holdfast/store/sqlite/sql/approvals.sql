-- Questions to people. Every statement that reads them gives the columns of `rows.approval_of`, in its order.

-- name: answered_before
SELECT choice, comment, answered_by, answered_at_us FROM approvals
WHERE run = ? AND question_hash = ? AND status = 'answered' ORDER BY n DESC LIMIT 1;

-- name: insert_approval
INSERT INTO approvals (run, n, segment, question_hash, question, options, context, status, asked_at_us, expires_at_us,
                       escalate_at_us, escalate_to, choice, comment, answered_by, answered_at_us)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: approval
SELECT runs.id, runs.agent, n, question_hash, question, options, context, status, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM approvals JOIN runs ON runs.key = approvals.run WHERE approvals.run = ? AND n = ?;

-- name: approvals_of_run
SELECT runs.id, runs.agent, n, question_hash, question, options, context, status, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM approvals JOIN runs ON runs.key = approvals.run WHERE approvals.run = ? ORDER BY n;

-- name: open_approvals
SELECT runs.id, runs.agent, n, question_hash, question, options, context, status, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM approvals INDEXED BY approvals_open JOIN runs ON runs.key = approvals.run
WHERE status = 'open' AND (expires_at_us IS NULL OR expires_at_us > ?) AND coalesce(runs.reason, '') <> 'importing'
ORDER BY escalated DESC, asked_at_us, approvals.run, n LIMIT ?;

-- name: answer_approval
UPDATE approvals SET status = 'answered', closed_by = NULL, choice = ?, comment = ?, answered_by = ?, answered_at_us = ?
WHERE run = ? AND n = ?;

-- name: expire_approval
UPDATE approvals SET status = 'expired', closed_by = NULL WHERE run = ? AND n = ? AND status IN ('open', 'withdrawn');

-- name: verdict_in_inbox
SELECT 1 FROM signals INDEXED BY signals_inbox WHERE run = ? AND name = ? AND consumed IS NULL;

-- name: withdraw_approval
UPDATE approvals SET status = 'withdrawn', closed_by = ? WHERE run = ? AND n = ? AND status = 'open';

-- name: withdraw_for_good
UPDATE approvals SET status = 'withdrawn', closed_by = NULL WHERE run = ? AND n = ? AND status IN ('open', 'withdrawn')
RETURNING n, question;

-- name: withdraw_at_end
UPDATE approvals SET status = 'withdrawn', closed_by = 0 WHERE run = ? AND status = 'open' RETURNING n, question;

-- name: withdraw_passed
-- The code has gone past a checkpoint: whatever it asked before waits no longer.
UPDATE approvals SET status = 'withdrawn', closed_by = NULL WHERE run = ? AND status = 'open' AND segment < ?
RETURNING n, question;

-- name: reopen
UPDATE approvals SET status = 'open', closed_by = NULL WHERE run = ? AND closed_by = ?
RETURNING n, question, options, expires_at_us;

-- name: to_escalate
SELECT run, n FROM approvals INDEXED BY approvals_escalate
WHERE status = 'open' AND escalated = 0 AND escalate_at_us IS NOT NULL AND escalate_at_us <= ?
    AND NOT EXISTS (SELECT 1 FROM runs WHERE key = approvals.run AND reason = 'importing')
ORDER BY escalate_at_us LIMIT ?;

-- name: escalate
UPDATE approvals SET escalated = 1 WHERE run = ? AND n = ?;
