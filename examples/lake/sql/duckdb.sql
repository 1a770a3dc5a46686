-- Reads what Firehose writes, without a table. Set the path: `s3://BUCKET/lines/**` with the extension
-- httpfs, and a condition on `day`, `source` or `worst` reads only those files.
CREATE VIEW telemetry_lines AS
SELECT * FROM read_json('lines/**/*.ndjson.gz',
  format = 'newline_delimited',
  hive_partitioning = true,
  hive_types_autocast = false,
  columns = {
    'time': 'TIMESTAMPTZ',
    'type': 'VARCHAR',
    'level': 'VARCHAR',
    'message': 'VARCHAR',
    'request_id': 'VARCHAR',
    'trace_id': 'VARCHAR',
    'tenant_id': 'VARCHAR',
    'function': 'VARCHAR',
    'version': 'VARCHAR',
    'instance': 'VARCHAR',
    'duration_ms': 'DOUBLE',
    'billed_ms': 'DOUBLE',
    'memory_mb': 'BIGINT',
    'max_memory_mb': 'BIGINT',
    'init_ms': 'DOUBLE',
    'status': 'VARCHAR',
    'error_type': 'VARCHAR',
    'attributes': 'VARCHAR',
    'record_id': 'VARCHAR',
    'tags': 'VARCHAR'
  });

-- Each line once.
CREATE VIEW telemetry_once AS
SELECT DISTINCT ON (record_id) * FROM telemetry_lines;

-- Invocations of each function and hour.
CREATE VIEW invocations AS
SELECT
  "function",
  time_bucket(INTERVAL 1 HOUR, "time") AS hour,
  count(*) AS invocations,
  count(init_ms) AS cold_starts,
  count(*) FILTER ("status" != 'success') AS failures,
  median(duration_ms) AS median_ms,
  max(duration_ms) AS longest_ms,
  max(max_memory_mb) AS most_memory_mb
FROM telemetry_once
WHERE "type" = 'platform.report'
GROUP BY "function", hour;
