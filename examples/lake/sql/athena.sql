-- What Firehose writes, by its partitions, which Athena works out itself: no crawler is needed. Set the
-- bucket and the names of your functions. This replaces the first table of
-- `telemetryd schema flat.athena.sql`; the Iceberg table and the MERGE there use it as they are.
CREATE EXTERNAL TABLE telemetry_lines (
  `time` string,
  `type` string,
  `level` string,
  `message` string,
  `request_id` string,
  `trace_id` string,
  `tenant_id` string,
  `function` string,
  `version` string,
  `instance` string,
  `duration_ms` double,
  `billed_ms` double,
  `memory_mb` bigint,
  `max_memory_mb` bigint,
  `init_ms` double,
  `status` string,
  `error_type` string,
  `attributes` string,
  `record_id` string,
  `tags` string
)
PARTITIONED BY (`day` string, `source` string, `worst` string)
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION 's3://BUCKET/lines/'
TBLPROPERTIES (
  'projection.enabled' = 'true',
  'projection.day.type' = 'date',
  'projection.day.format' = 'yyyy-MM-dd',
  'projection.day.range' = '2026-01-01,NOW',
  'projection.source.type' = 'enum',
  'projection.source.values' = 'orders-api,several',
  'projection.worst.type' = 'enum',
  'projection.worst.values' = 'NONE,TRACE,DEBUG,INFO,WARN,ERROR,FATAL',
  'storage.location.template' = 's3://BUCKET/lines/day=${day}/source=${source}/worst=${worst}/'
);

-- Each line once.
CREATE VIEW telemetry_once AS
SELECT * FROM (
  SELECT *, row_number() OVER (PARTITION BY record_id ORDER BY "time") AS copy
  FROM telemetry_lines
)
WHERE copy = 1;

-- Errors of a day: the partition of the day before has what came just after midnight.
SELECT "time", message, request_id
FROM telemetry_once
WHERE "day" BETWEEN '2026-03-13' AND '2026-03-14' AND worst IN ('ERROR', 'FATAL')
  AND "time" LIKE '2026-03-14%' AND level IN ('ERROR', 'FATAL')
ORDER BY "time";

-- Invocations of each function and hour.
CREATE VIEW invocations AS
SELECT
  "function",
  date_trunc('hour', from_iso8601_timestamp("time")) AS hour,
  count(*) AS invocations,
  count(init_ms) AS cold_starts,
  count_if("status" != 'success') AS failures,
  approx_percentile(duration_ms, 0.5) AS median_ms,
  max(duration_ms) AS longest_ms,
  max(max_memory_mb) AS most_memory_mb
FROM telemetry_once
WHERE "type" = 'platform.report'
GROUP BY 1, 2;
