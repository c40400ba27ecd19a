-- Artifacts, and the contents they refer to. The conditions of the partial index are repeated word for word.

-- name: begin_content
INSERT INTO contents (touched_at_us) VALUES (?) RETURNING key;

-- name: touch_upload
UPDATE contents SET touched_at_us = ? WHERE key = ? AND sha256 IS NULL;

-- name: chunk_by_hash
SELECT key FROM chunks WHERE sha256 = ?;

-- name: insert_chunk
INSERT INTO chunks (sha256, size_bytes, encoding, body) VALUES (?, ?, ?, ?) RETURNING key;

-- name: add_to_content
INSERT INTO content_chunks (content, n, chunk) VALUES (?, ?, ?) ON CONFLICT (content, n) DO NOTHING;

-- name: sealed
SELECT key, size_bytes, chunks FROM contents WHERE sha256 = ?;

-- name: measured
SELECT count(*), coalesce(max(n) + 1, 0), coalesce(sum(size_bytes), 0)
FROM content_chunks JOIN chunks ON chunks.key = chunk WHERE content = ?;

-- name: seal
UPDATE contents SET sha256 = ?, size_bytes = ?, chunks = ?, touched_at_us = ? WHERE key = ? AND sha256 IS NULL;

-- name: touch
UPDATE contents SET touched_at_us = ? WHERE key = ?;

-- name: insert_artifact
INSERT INTO artifacts (run, position, name, content, media_type, at_us) VALUES (?, ?, ?, ?, ?, ?);

-- name: artifacts
SELECT contents.sha256, name, size_bytes, media_type, at_us
FROM artifacts JOIN contents ON contents.key = content WHERE run = ? AND superseded = 0 ORDER BY position;

-- name: read_chunk
SELECT chunks.sha256, encoding, body FROM contents
JOIN content_chunks ON content = contents.key JOIN chunks ON chunks.key = chunk
WHERE contents.sha256 = ? AND n = ?;

-- name: orphans
SELECT key FROM contents INDEXED BY contents_orphaned WHERE referred = 0 AND touched_at_us < ?
ORDER BY touched_at_us LIMIT 1;

-- name: unseal
UPDATE contents SET sha256 = NULL WHERE key = ? AND sha256 IS NOT NULL;

-- name: some_chunks
SELECT n, chunk FROM content_chunks WHERE content = ? ORDER BY n DESC LIMIT ?;

-- name: drop_from_content
DELETE FROM content_chunks WHERE content = ? AND n = ?;

-- name: drop_chunk
DELETE FROM chunks WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM content_chunks WHERE chunk = ?1);

-- name: drop_content
DELETE FROM contents WHERE key = ?;
