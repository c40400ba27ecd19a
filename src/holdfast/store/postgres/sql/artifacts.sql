-- Artifacts, and the contents they refer to. The conditions of the partial index are repeated word for word.

-- name: begin_content
INSERT INTO holdfast.contents (touched_at_us) VALUES ($1) RETURNING key;

-- name: touch_upload
UPDATE holdfast.contents SET touched_at_us = $1 WHERE key = $2 AND sha256 IS NULL;

-- name: chunk_by_hash
SELECT key FROM holdfast.chunks WHERE sha256 = $1;

-- name: insert_chunk
INSERT INTO holdfast.chunks (sha256, size_bytes, encoding, body) VALUES ($1, $2, $3, $4) RETURNING key;

-- name: add_to_content
INSERT INTO holdfast.content_chunks (content, n, chunk) VALUES ($1, $2, $3) ON CONFLICT (content, n) DO NOTHING;

-- name: sealed
SELECT key, size_bytes, chunks FROM holdfast.contents WHERE sha256 = $1;

-- name: measured
SELECT count(*), coalesce(max(n) + 1, 0), coalesce(sum(size_bytes), 0)::bigint
FROM holdfast.content_chunks JOIN holdfast.chunks ON chunks.key = chunk WHERE content = $1;

-- name: seal
UPDATE holdfast.contents SET sha256 = $1, size_bytes = $2, chunks = $3, touched_at_us = $4 WHERE key = $5 AND sha256 IS NULL;

-- name: touch
UPDATE holdfast.contents SET touched_at_us = $1 WHERE key = $2;

-- name: insert_artifact
INSERT INTO holdfast.artifacts (run, position, name, content, media_type, at_us) VALUES ($1, $2, $3, $4, $5, $6);

-- name: artifacts
SELECT contents.sha256, name, size_bytes, media_type, at_us
FROM holdfast.artifacts JOIN holdfast.contents ON contents.key = content WHERE run = $1 AND NOT superseded ORDER BY position;

-- name: read_chunk
SELECT chunks.sha256, encoding, body FROM holdfast.contents
JOIN holdfast.content_chunks ON content = contents.key JOIN holdfast.chunks ON chunks.key = chunk
WHERE contents.sha256 = $1 AND n = $2;

-- name: orphans
SELECT key FROM holdfast.contents WHERE referred = 0 AND touched_at_us < $1
ORDER BY touched_at_us LIMIT 1;

-- name: unseal
UPDATE holdfast.contents SET sha256 = NULL WHERE key = $1 AND sha256 IS NOT NULL;

-- name: some_chunks
SELECT n, chunk FROM holdfast.content_chunks WHERE content = $1 ORDER BY n DESC LIMIT greatest($2, 0);

-- name: drop_from_content
DELETE FROM holdfast.content_chunks WHERE content = $1 AND n = $2;

-- name: drop_chunk
DELETE FROM holdfast.chunks WHERE key = $1 AND NOT EXISTS (SELECT 1 FROM holdfast.content_chunks WHERE chunk = $1);

-- name: drop_content
DELETE FROM holdfast.contents WHERE key = $1;
