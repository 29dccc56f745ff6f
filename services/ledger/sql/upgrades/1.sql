-- Paths of other endpoints than messages, and results of message batches.
ALTER TABLE requests ADD COLUMN path VARCHAR;
ALTER TABLE requests ADD COLUMN batch_id VARCHAR;
ALTER TABLE requests ADD COLUMN custom_id VARCHAR;
COMMENT ON COLUMN requests.endpoint IS 'messages; count_tokens, batches, files (none of them paid); batch_result (a result of a message batch, once); pass_through (unpriced).';
COMMENT ON COLUMN requests.path IS 'The path that was asked for; NULL for messages, count_tokens and batch_result.';
COMMENT ON COLUMN requests.batch_id IS 'The message batch that it is about.';
COMMENT ON COLUMN requests.custom_id IS 'Of a batch_result: the client''s own name for it, unique in its batch.';
