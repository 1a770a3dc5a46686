-- Generated from telemetryd_proto.flat (make schema). docs/flat.md explains it.

CREATE TABLE telemetry (
  "time" TIMESTAMPTZ NOT NULL,
  "type" VARCHAR,
  "level" VARCHAR,
  "message" VARCHAR,
  "request_id" VARCHAR,
  "trace_id" VARCHAR,
  "tenant_id" VARCHAR,
  "function" VARCHAR NOT NULL,
  "version" VARCHAR NOT NULL,
  "instance" VARCHAR NOT NULL,
  "duration_ms" DOUBLE,
  "billed_ms" DOUBLE,
  "memory_mb" BIGINT,
  "max_memory_mb" BIGINT,
  "init_ms" DOUBLE,
  "status" VARCHAR,
  "error_type" VARCHAR,
  "attributes" VARCHAR,
  "record_id" VARCHAR PRIMARY KEY,
  "tags" VARCHAR
);

-- Adds the lines of files, each once. Set the path.
INSERT OR IGNORE INTO telemetry
SELECT * FROM read_json('lines/*.ndjson', format = 'newline_delimited',
  columns = {'time': 'TIMESTAMPTZ', 'type': 'VARCHAR', 'level': 'VARCHAR', 'message': 'VARCHAR', 'request_id': 'VARCHAR', 'trace_id': 'VARCHAR', 'tenant_id': 'VARCHAR', 'function': 'VARCHAR', 'version': 'VARCHAR', 'instance': 'VARCHAR', 'duration_ms': 'DOUBLE', 'billed_ms': 'DOUBLE', 'memory_mb': 'BIGINT', 'max_memory_mb': 'BIGINT', 'init_ms': 'DOUBLE', 'status': 'VARCHAR', 'error_type': 'VARCHAR', 'attributes': 'VARCHAR', 'record_id': 'VARCHAR', 'tags': 'VARCHAR'});
