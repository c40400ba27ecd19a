-- name: insert_blob
INSERT INTO blobs (run, sha256, size_bytes, encoding, body) VALUES (?, ?, ?, ?, ?) RETURNING key;

-- name: load_blob
SELECT sha256, encoding, body FROM blobs WHERE key = ?;
