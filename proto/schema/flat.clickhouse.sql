-- Generated from telemetryd_proto.flat (make schema). docs/flat.md explains it.

-- Lines that were delivered twice become one when parts are merged, or with FINAL.
-- Insert with date_time_input_format = 'best_effort', which reads RFC 3339.
CREATE TABLE telemetry (
  `time` DateTime64(9, 'UTC'),
  `type` LowCardinality(Nullable(String)),
  `level` LowCardinality(Nullable(String)),
  `message` Nullable(String),
  `request_id` Nullable(String),
  `trace_id` Nullable(String),
  `tenant_id` Nullable(String),
  `function` LowCardinality(String),
  `version` LowCardinality(String),
  `instance` String,
  `duration_ms` Nullable(Float64),
  `billed_ms` Nullable(Float64),
  `memory_mb` Nullable(Int64),
  `max_memory_mb` Nullable(Int64),
  `init_ms` Nullable(Float64),
  `status` LowCardinality(Nullable(String)),
  `error_type` LowCardinality(Nullable(String)),
  `attributes` Nullable(String),
  `record_id` String,
  `tags` Nullable(String)
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (function, time, record_id);
