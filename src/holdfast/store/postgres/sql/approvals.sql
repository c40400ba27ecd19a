-- Questions to people. Every statement that reads them gives the columns of `rows.approval_of`, in its order.

-- name: answered_before
SELECT choice, comment, answered_by, answered_at_us FROM holdfast.approvals
WHERE run = $1 AND question_hash = $2 AND status = 'answered' ORDER BY n DESC LIMIT 1;

-- name: insert_approval
INSERT INTO holdfast.approvals (run, n, segment, question_hash, question, options, context, status, asked_at_us, expires_at_us,
                       escalate_at_us, escalate_to, choice, comment, answered_by, answered_at_us)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16);

-- name: approval
SELECT runs.id, runs.agent, n, question_hash, question, options, context, status, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM holdfast.approvals JOIN holdfast.runs ON runs.key = approvals.run WHERE approvals.run = $1 AND n = $2;

-- name: approvals_of_run
SELECT runs.id, runs.agent, n, question_hash, question, options, context, status, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM holdfast.approvals JOIN holdfast.runs ON runs.key = approvals.run WHERE approvals.run = $1 ORDER BY n;

-- name: open_approvals
SELECT runs.id, runs.agent, n, question_hash, question, options, context, status, asked_at_us, expires_at_us,
       escalate_at_us, escalate_to, escalated, choice, comment, answered_by, answered_at_us
FROM holdfast.approvals JOIN holdfast.runs ON runs.key = approvals.run
WHERE status = 'open' AND (expires_at_us IS NULL OR expires_at_us > $1) AND coalesce(runs.reason, '') <> 'importing'
ORDER BY escalated DESC, asked_at_us, approvals.run, n LIMIT greatest($2, 0);

-- name: answer_approval
UPDATE holdfast.approvals SET status = 'answered', closed_by = NULL, choice = $1, comment = $2, answered_by = $3, answered_at_us = $4
WHERE run = $5 AND n = $6;

-- name: expire_approval
UPDATE holdfast.approvals SET status = 'expired', closed_by = NULL WHERE run = $1 AND n = $2 AND status IN ('open', 'withdrawn');

-- name: verdict_in_inbox
SELECT 1 FROM holdfast.signals WHERE run = $1 AND name = $2 AND consumed IS NULL;

-- name: withdraw_approval
UPDATE holdfast.approvals SET status = 'withdrawn', closed_by = $1 WHERE run = $2 AND n = $3 AND status = 'open';

-- name: withdraw_for_good
UPDATE holdfast.approvals SET status = 'withdrawn', closed_by = NULL WHERE run = $1 AND n = $2 AND status IN ('open', 'withdrawn')
RETURNING n, question;

-- name: withdraw_at_end
UPDATE holdfast.approvals SET status = 'withdrawn', closed_by = 0 WHERE run = $1 AND status = 'open' RETURNING n, question;

-- name: withdraw_passed
-- The code has gone past a checkpoint: whatever it asked before waits no longer.
UPDATE holdfast.approvals SET status = 'withdrawn', closed_by = NULL WHERE run = $1 AND status = 'open' AND segment < $2
RETURNING n, question;

-- name: reopen
UPDATE holdfast.approvals SET status = 'open', closed_by = NULL WHERE run = $1 AND closed_by = $2
RETURNING n, question, options, expires_at_us;

-- name: to_escalate
SELECT run, n FROM holdfast.approvals
WHERE status = 'open' AND NOT escalated AND escalate_at_us IS NOT NULL AND escalate_at_us <= $1
    AND NOT EXISTS (SELECT 1 FROM holdfast.runs WHERE key = approvals.run AND reason = 'importing')
ORDER BY escalate_at_us LIMIT greatest($2, 0);

-- name: escalate
UPDATE holdfast.approvals SET escalated = true WHERE run = $1 AND n = $2;
