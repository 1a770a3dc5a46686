-- Rows arrive in `telemetry_lines`, and a materialised view puts them into `telemetry`, the table of
-- `telemetryd schema flat.clickhouse.sql`: run that first. It is a ReplacingMergeTree, so of rows with
-- the same record_id one is left.
--
-- A table with the engine Null stores nothing: INSERT INTO telemetry_lines FORMAT JSONEachRow.
-- To read what Firehose writes, give it this engine instead (it needs ClickHouse Keeper):
--   S3Queue('https://BUCKET.s3.REGION.amazonaws.com/lines/**', 'JSONEachRow', 'gzip')
--   SETTINGS mode = 'unordered'
CREATE TABLE telemetry_lines (
  `time` String,
  `type` Nullable(String),
  `level` Nullable(String),
  `message` Nullable(String),
  `request_id` Nullable(String),
  `trace_id` Nullable(String),
  `tenant_id` Nullable(String),
  `function` String,
  `version` String,
  `instance` String,
  `duration_ms` Nullable(Float64),
  `billed_ms` Nullable(Float64),
  `memory_mb` Nullable(Int64),
  `max_memory_mb` Nullable(Int64),
  `init_ms` Nullable(Float64),
  `status` Nullable(String),
  `error_type` Nullable(String),
  `attributes` Nullable(String),
  `record_id` String,
  `tags` Nullable(String)
)
ENGINE = Null;

CREATE MATERIALIZED VIEW telemetry_arrivals TO telemetry AS
SELECT * REPLACE (parseDateTime64BestEffort(time, 9, 'UTC') AS time)
FROM telemetry_lines;

-- Each line once, also before parts are merged. Count on this, not on `telemetry`.
CREATE VIEW telemetry_once AS
SELECT * FROM telemetry FINAL;

-- Invocations of each function and hour.
CREATE VIEW invocations AS
SELECT
  function,
  toStartOfHour(time) AS hour,
  count() AS invocations,
  countIf(init_ms IS NOT NULL) AS cold_starts,
  countIf(status != 'success') AS failures,
  quantileExact(0.5)(duration_ms) AS median_ms,
  max(duration_ms) AS longest_ms,
  max(max_memory_mb) AS most_memory_mb
FROM telemetry_once
WHERE type = 'platform.report'
GROUP BY function, hour;
