-- What a run that waits for a budget asks for there: whoever makes room wakes as many as fit.
--
--   budget_waits.unit, asked  the smallest call of the run that did not fit; NULL where it was refused by an older version.

ALTER TABLE budget_waits ADD COLUMN unit TEXT;
ALTER TABLE budget_waits ADD COLUMN asked INTEGER;
