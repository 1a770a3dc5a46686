-- Generated from telemetryd_proto.flat (make schema). docs/flat.md explains it.

-- The lines as they are in S3. Set the location.
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
ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe'
LOCATION 's3://BUCKET/lines/';

-- An Iceberg table of them. Set the location.
CREATE TABLE telemetry (
  `time` timestamp,
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
PARTITIONED BY (day(`time`))
LOCATION 's3://BUCKET/telemetry/'
TBLPROPERTIES ('table_type' = 'ICEBERG', 'format' = 'parquet');

-- Adds the lines that the table does not have yet, each once.
MERGE INTO telemetry AS have USING (
  SELECT cast(from_iso8601_timestamp("time") AS timestamp) AS "time", "type", "level", "message", "request_id", "trace_id", "tenant_id", "function", "version", "instance", "duration_ms", "billed_ms", "memory_mb", "max_memory_mb", "init_ms", "status", "error_type", "attributes", "record_id", "tags"
  FROM (
    SELECT *, row_number() OVER (PARTITION BY record_id) AS copy
    FROM telemetry_lines
  )
  WHERE copy = 1
) AS new ON have.record_id = new.record_id
WHEN NOT MATCHED THEN INSERT ("time", "type", "level", "message", "request_id", "trace_id", "tenant_id", "function", "version", "instance", "duration_ms", "billed_ms", "memory_mb", "max_memory_mb", "init_ms", "status", "error_type", "attributes", "record_id", "tags")
  VALUES (new."time", new."type", new."level", new."message", new."request_id", new."trace_id", new."tenant_id", new."function", new."version", new."instance", new."duration_ms", new."billed_ms", new."memory_mb", new."max_memory_mb", new."init_ms", new."status", new."error_type", new."attributes", new."record_id", new."tags");
