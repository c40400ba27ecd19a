-- name: insert_blob
INSERT INTO holdfast.blobs (run, sha256, size_bytes, encoding, body) VALUES ($1, $2, $3, $4, $5) RETURNING key;

-- name: load_blob
SELECT sha256, encoding, body FROM holdfast.blobs WHERE key = $1;
